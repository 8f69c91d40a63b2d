#include "backends/cuda/capture_guard.hpp"

namespace alterbute {
namespace {

// Never destroyed: editors may live until the process ends.
std::shared_mutex& process_mutex() {
  static auto* const mutex = new std::shared_mutex;
  return *mutex;
}

}  // namespace

std::unique_lock<std::shared_mutex> lock_for_capture() { return std::unique_lock<std::shared_mutex>(process_mutex()); }

std::shared_lock<std::shared_mutex> lock_for_use() { return std::shared_lock<std::shared_mutex>(process_mutex()); }

}  // namespace alterbute
