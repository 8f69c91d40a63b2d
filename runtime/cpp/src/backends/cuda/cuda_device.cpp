#include "backends/cuda/cuda_device.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>

namespace alterbute {
namespace {

// The context is lost after these errors: every later call fails with the same error, so the process must end. In the
// order of cudaError_t: illegal address, launch timeout and failure, hardware, instruction, alignment, address space,
// program counter, assertion, ECC, NVLink, and a device that is no longer there.
constexpr std::array<int, 15> kFatal = {46, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721};
constexpr int kOutOfMemory = 2;
constexpr unsigned kNonBlockingStream = 1, kNoTiming = 2;
constexpr int kHostToDevice = 1, kDeviceToHost = 2;

// The error code in ONNX Runtime's message "CUDA failure 700: ..."; 0 where there is none.
int code_in(const std::string& line) {
  constexpr const char* kMark = "CUDA failure ";
  const std::size_t at = line.find(kMark);
  if (at != std::string::npos) return std::atoi(line.c_str() + at + std::char_traits<char>::length(kMark));
  return line.find("Failed to allocate memory") != std::string::npos ? kOutOfMemory : 0;
}

}  // namespace

CudaDevice::CudaDevice(const CudaFunctions& functions, int index, void* stream)
    : cuda_(functions), index_(index), stream_(stream), owns_stream_(stream == nullptr) {}

void CudaDevice::use() {
  if (const int code = cuda_.set_device(index_); code != 0) {
    throw DeviceError("GPU " + std::to_string(index_) + " cannot be used (" + cuda_.error_name(code) + ")",
                      "an NVIDIA GPU with this index, and a driver for this version of CUDA",
                      "install or update the driver (nvidia-smi names the GPUs), or open the editor on the device "
                      "'cpu'");
  }
  if (owns_stream_) check("cudaStreamCreateWithFlags", cuda_.create_stream(&stream_, kNonBlockingStream));
}

void CudaDevice::close() {
  if (owns_stream_ && stream_ != nullptr) check("cudaStreamDestroy", cuda_.destroy_stream(stream_));
  stream_ = nullptr;
}

void* CudaDevice::allocate(std::size_t bytes) {
  bytes = std::max<std::size_t>(bytes, 1);
  void* address = nullptr;
  check("cudaMalloc", cuda_.allocate(&address, bytes));
  clear(address, bytes);
  return address;
}

void CudaDevice::clear(void* address, std::size_t bytes) {
  check("cudaMemsetAsync", cuda_.fill(address, 0, bytes, stream_));
}

void CudaDevice::free(void* address) { check("cudaFree", cuda_.free(address)); }

void* CudaDevice::allocate_pinned(std::size_t bytes) {
  void* address = nullptr;
  check("cudaHostAlloc", cuda_.allocate_pinned(&address, std::max<std::size_t>(bytes, 1), 0));
  return address;
}

void CudaDevice::free_pinned(void* address) { check("cudaFreeHost", cuda_.free_pinned(address)); }

void CudaDevice::upload(void* to, const void* from, std::size_t bytes) {
  check("cudaMemcpyAsync", cuda_.copy(to, from, bytes, kHostToDevice, stream_));
}

void CudaDevice::download(void* to, const void* from, std::size_t bytes) {
  check("cudaMemcpyAsync", cuda_.copy(to, from, bytes, kDeviceToHost, stream_));
}

void CudaDevice::wait() { check("cudaStreamSynchronize", cuda_.wait_stream(stream_)); }

void* CudaDevice::make_event() {
  void* event = nullptr;
  check("cudaEventCreateWithFlags", cuda_.create_event(&event, kNoTiming));
  return event;
}

void CudaDevice::destroy_event(void* event) { check("cudaEventDestroy", cuda_.destroy_event(event)); }

void CudaDevice::record(void* event) { check("cudaEventRecord", cuda_.record_event(event, stream_)); }

void CudaDevice::wait_for(void* event) { check("cudaEventSynchronize", cuda_.wait_event(event)); }

DeviceError CudaDevice::explain(const EngineError& fault) {
  if (const int code = code_in(fault.what()); code != 0) {
    const DeviceError told = describe("ONNX Runtime", code);
    if (told.is_fatal() || code == kOutOfMemory) return told;
  }
  // A lost device says so at any call, more precisely than ONNX Runtime does.
  std::size_t free = 0, total = 0;
  if (const int code = cuda_.memory_info(&free, &total); code != 0) return describe("cudaMemGetInfo", code);
  return {fault.seen(), fault.expected(), fault.fix()};
}

void CudaDevice::check_is_alive() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (fatal_) throw DeviceError(*fatal_);
}

void CudaDevice::check(const char* function, int code) {
  check_is_alive();
  if (code != 0) throw describe(function, code);
}

DeviceError CudaDevice::describe(const std::string& where, int code) {
  const char* known = cuda_.error_name(code);
  const std::string label = (known == nullptr ? "error" : known) + (" " + std::to_string(code));
  if (code == kOutOfMemory)
    return {where + " found no memory on the GPU (" + label + ")", "free memory", "use fewer slots, or free the GPU"};
  if (std::find(kFatal.begin(), kFatal.end(), code) == kFatal.end())
    return {where + " failed (" + label + ")", "success", "see ONNX Runtime's log; report it if it happens again"};
  const DeviceError lost("the GPU is lost to this process (" + label + " in " + where + ")", "a healthy device",
                         "restart the process", true);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!fatal_) fatal_ = lost;
  return lost;
}

}  // namespace alterbute
