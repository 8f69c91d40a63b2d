// ONNX Runtime's CUDA execution provider: how it is loaded, configured, and found in a session.
#pragma once

#include <string>

struct OrtApi;
struct OrtSession;
struct OrtSessionOptions;

namespace alterbute {

// Where a session runs that is not on the CPU.
struct CudaProvider {
  int device = 0;
  void* stream = nullptr;   // a cudaStream_t: every kernel and copy of the session is enqueued here
  bool has_graphs = false;  // runs over fixed addresses are captured as CUDA graphs
};

// Loads the provider and the CUDA libraries that it needs, which ONNX Runtime does not do before a session asks for it.
// Throws EngineError: it is not there, or one of its libraries is missing.
void load_cuda_provider(const OrtApi& api);

// Throws Fault.
void add_cuda_provider(const OrtApi& api, OrtSessionOptions* options, const CudaProvider& provider);

// A session that has the provider can allocate on the device. Throws Fault for one that was made without it.
void check_is_on_device(const OrtApi& api, const OrtSession* session, int device);

}  // namespace alterbute
