#include "host_device.hpp"

#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace alterbute {
namespace {

struct Fail {
  int code;
  std::int64_t left;
};

std::mutex mutex;
std::map<std::string, Fail> failing;
std::map<std::string, std::int64_t> calls;
std::atomic<std::int64_t> allocations{0};

// Counts a call; the error with which it has to fail, or 0.
int enter(const char* function) {
  const std::lock_guard<std::mutex> lock(mutex);
  ++calls[function];
  const auto fail = failing.find(function);
  if (fail == failing.end()) return 0;
  return --fail->second.left < 0 ? fail->second.code : 0;
}

int allocate(const char* function, void** address, std::size_t bytes) {
  if (const int code = enter(function); code != 0) return code;
  *address = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  // What was never written shows: all bits set is NaN.
  std::memset(*address, 0xFF, bytes);
  ++allocations;
  return 0;
}

int give_back(const char* function, void* address) {
  std::free(address);
  --allocations;
  return enter(function);
}

int make(const char* function, void** object) {
  static int anything = 0;
  *object = &anything;
  return enter(function);
}

CudaFunctions functions() {
  CudaFunctions made;
  made.set_device = [](int) { return enter("set_device"); };
  made.memory_info = [](std::size_t* free, std::size_t* total) {
    *free = *total = 0;
    return enter("memory_info");
  };
  made.allocate = [](void** address, std::size_t bytes) { return allocate("allocate", address, bytes); };
  made.free = [](void* address) { return give_back("free", address); };
  made.allocate_pinned = [](void** address, std::size_t bytes, unsigned) {
    return allocate("allocate_pinned", address, bytes);
  };
  made.free_pinned = [](void* address) { return give_back("free_pinned", address); };
  made.copy = [](void* to, const void* from, std::size_t bytes, int, void*) {
    std::memcpy(to, from, bytes);
    return enter("copy");
  };
  made.fill = [](void* address, int value, std::size_t bytes, void*) {
    std::memset(address, value, bytes);
    return enter("fill");
  };
  made.create_stream = [](void** stream, unsigned) { return make("create_stream", stream); };
  made.destroy_stream = [](void*) { return enter("destroy_stream"); };
  made.wait_stream = [](void*) { return enter("wait_stream"); };
  made.create_event = [](void** event, unsigned) { return make("create_event", event); };
  made.destroy_event = [](void*) { return enter("destroy_event"); };
  made.record_event = [](void*, void*) { return enter("record_event"); };
  made.wait_event = [](void*) { return enter("wait_event"); };
  made.error_name = [](int) { return "cudaErrorOfTheTest"; };
  return made;
}

}  // namespace

const CudaFunctions& host_device() {
  static const CudaFunctions made = functions();
  return made;
}

void fail_host_device(const std::string& function, int code, std::int64_t at) {
  const std::lock_guard<std::mutex> lock(mutex);
  failing.clear();
  if (code != 0) failing[function] = {code, at - 1};
}

std::int64_t host_device_allocations() { return allocations; }

std::int64_t host_device_calls(const std::string& function) {
  const std::lock_guard<std::mutex> lock(mutex);
  return calls[function];
}

void* make_cuda_stream() {
  void* library = ::dlopen("libcudart.so.13", RTLD_NOW);
  if (library == nullptr) return nullptr;
  void* stream = nullptr;
  reinterpret_cast<int (*)(void**, unsigned)>(::dlsym(library, "cudaStreamCreateWithFlags"))(&stream, 1);
  return stream;
}

}  // namespace alterbute
