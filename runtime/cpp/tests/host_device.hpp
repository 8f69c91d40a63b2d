// A GPU made of the host's memory: sessions run on the CPU provider over memory that is bound as a GPU's would be, so
// that the numbers of that path can be compared.
#pragma once

#include <cstdint>
#include <string>

#include "backends/cuda/cuda_functions.hpp"

namespace alterbute {

// Its functions; a stream and an event are any non-null address.
const CudaFunctions& host_device();

// The `at`-th call from now of a member of CudaFunctions, and every later one, returns this cudaError_t; 0 calls
// nothing off.
void fail_host_device(const std::string& function, int code, std::int64_t at);

// Device and pinned allocations that were not freed, and calls of a function so far.
std::int64_t host_device_allocations();
std::int64_t host_device_calls(const std::string& function);

// A stream of the CUDA runtime as the loader finds it, or null.
void* make_cuda_stream();

}  // namespace alterbute
