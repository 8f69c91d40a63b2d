#include "backends/cuda/cuda_functions.hpp"

#include <dlfcn.h>

#include <array>
#include <string>

#include "alterbute/errors.hpp"

namespace alterbute {
namespace {

constexpr std::array<const char*, 2> kNames = {"libcudart.so.13", "libcudart.so.12"};

void* open_runtime(std::string& fault) {
  // The one that the provider has loaded first: another version would have contexts and streams of its own.
  for (const char* name : kNames)
    if (void* library = ::dlopen(name, RTLD_NOW | RTLD_NOLOAD)) return library;
  for (const char* name : kNames) {
    if (void* library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
    const char* reason = ::dlerror();
    if (fault.empty()) fault = reason == nullptr ? name : reason;
  }
  return nullptr;
}

[[noreturn]] void refuse(const std::string& fault) {
  throw EngineError("the CUDA runtime is not found (" + fault + ")", "libcudart.so.13 or libcudart.so.12",
                    "install CUDA's runtime (the package nvidia-cuda-runtime has it) and put its folder in "
                    "LD_LIBRARY_PATH");
}

template <typename Function>
void find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(::dlsym(library, name));
  if (function == nullptr) refuse(std::string("it has no ") + name);
}

}  // namespace

CudaFunctions find_cuda_functions() {
  std::string fault;
  void* library = open_runtime(fault);
  if (library == nullptr) refuse(fault);
  CudaFunctions cuda;
  find(library, "cudaSetDevice", cuda.set_device);
  find(library, "cudaMemGetInfo", cuda.memory_info);
  find(library, "cudaMalloc", cuda.allocate);
  find(library, "cudaFree", cuda.free);
  find(library, "cudaHostAlloc", cuda.allocate_pinned);
  find(library, "cudaFreeHost", cuda.free_pinned);
  find(library, "cudaMemcpyAsync", cuda.copy);
  find(library, "cudaMemsetAsync", cuda.fill);
  find(library, "cudaStreamCreateWithFlags", cuda.create_stream);
  find(library, "cudaStreamDestroy", cuda.destroy_stream);
  find(library, "cudaStreamSynchronize", cuda.wait_stream);
  find(library, "cudaEventCreateWithFlags", cuda.create_event);
  find(library, "cudaEventDestroy", cuda.destroy_event);
  find(library, "cudaEventRecord", cuda.record_event);
  find(library, "cudaEventSynchronize", cuda.wait_event);
  find(library, "cudaGetErrorName", cuda.error_name);
  return cuda;
}

}  // namespace alterbute
