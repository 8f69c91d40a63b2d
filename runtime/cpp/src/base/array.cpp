#include "base/array.hpp"

#include <new>

namespace alterbute {

std::size_t count_of(const Shape& shape) {
  constexpr std::size_t kMost = std::size_t{1} << 40;
  std::size_t count = 1;
  for (const std::int64_t size : shape) {
    if (size == 0) return 0;
    if (size < 0 || static_cast<std::size_t>(size) > kMost / count) throw std::bad_alloc();
    count *= static_cast<std::size_t>(size);
  }
  return count;
}

}  // namespace alterbute
