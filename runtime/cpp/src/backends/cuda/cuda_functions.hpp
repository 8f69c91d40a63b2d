// The functions of the CUDA runtime that are used, found in the library that ONNX Runtime's provider has loaded: this
// library is built without CUDA's headers and linked against none of its libraries.
#pragma once

#include <cstddef>

namespace alterbute {

// Each returns a cudaError_t, 0 for success; streams and events are opaque.
struct CudaFunctions {
  int (*set_device)(int device) = nullptr;
  int (*memory_info)(std::size_t* free, std::size_t* total) = nullptr;
  int (*allocate)(void** address, std::size_t bytes) = nullptr;
  int (*free)(void* address) = nullptr;
  int (*allocate_pinned)(void** address, std::size_t bytes, unsigned flags) = nullptr;
  int (*free_pinned)(void* address) = nullptr;
  int (*copy)(void* to, const void* from, std::size_t bytes, int kind, void* stream) = nullptr;
  int (*fill)(void* address, int value, std::size_t bytes, void* stream) = nullptr;
  int (*create_stream)(void** stream, unsigned flags) = nullptr;
  int (*destroy_stream)(void* stream) = nullptr;
  int (*wait_stream)(void* stream) = nullptr;
  int (*create_event)(void** event, unsigned flags) = nullptr;
  int (*destroy_event)(void* event) = nullptr;
  int (*record_event)(void* event, void* stream) = nullptr;
  int (*wait_event)(void* event) = nullptr;
  const char* (*error_name)(int error) = nullptr;
};

// Throws EngineError: there is no CUDA runtime, or it lacks one of the functions.
CudaFunctions find_cuda_functions();

}  // namespace alterbute
