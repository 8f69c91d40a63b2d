// One GPU and one stream on it: memory, copies and events, every return code checked.
#pragma once

#include <cstddef>
#include <mutex>
#include <optional>
#include <string>

#include "alterbute/errors.hpp"
#include "backends/cuda/cuda_functions.hpp"

namespace alterbute {

// After a fatal error every call throws that error again. Functions are called on one thread, which `use` has prepared;
// `explain` may be called on any.
class CudaDevice {
 public:
  // A null stream: the device creates one of its own. The caller's is never destroyed.
  CudaDevice(const CudaFunctions& functions, int index, void* stream);
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  // Makes the GPU that of the calling thread, and creates the stream. Throws DeviceError: no driver, or no such GPU.
  void use();
  // Destroys the stream, if it is the device's own.
  void close();

  int index() const { return index_; }
  void* stream() const { return stream_; }

  // Zeros, at least one byte, so that an empty input has an address, too.
  void* allocate(std::size_t bytes);
  void free(void* address);
  void clear(void* address, std::size_t bytes);
  // Host memory that the device reads and writes by itself.
  void* allocate_pinned(std::size_t bytes);
  void free_pinned(void* address);
  // Both enqueue a copy between pinned and device memory.
  void upload(void* to, const void* from, std::size_t bytes);
  void download(void* to, const void* from, std::size_t bytes);
  // Waits until everything that was enqueued is done.
  void wait();

  void* make_event();
  void destroy_event(void* event);
  void record(void* event);
  void wait_for(void* event);

  // ONNX Runtime's fault as the device's: lost, out of memory, or this run's alone.
  DeviceError explain(const EngineError& fault);
  // Throws the fatal error again, if there was one.
  void check_is_alive();

 private:
  void check(const char* function, int code);
  DeviceError describe(const std::string& where, int code);

  CudaFunctions cuda_;
  int index_;
  void* stream_;
  bool owns_stream_;
  std::mutex mutex_;  // of `fatal_`
  std::optional<DeviceError> fatal_;
};

}  // namespace alterbute
