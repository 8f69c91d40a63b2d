#include "backends/cuda/cuda_provider.hpp"

#include <utility>
#include <vector>

#include "alterbute/errors.hpp"
#include "backends/ort_objects.hpp"

namespace alterbute {
namespace {

void set_cuda_options(const OrtApi& api, OrtCUDAProviderOptionsV2* options,
                      const std::vector<std::pair<const char*, std::string>>& values) {
  std::vector<const char*> names, texts;
  for (const auto& [name, text] : values) {
    names.push_back(name);
    texts.push_back(text.c_str());
  }
  check(api, api.UpdateCUDAProviderOptions(options, names.data(), texts.data(), names.size()));
}

}  // namespace

void load_cuda_provider(const OrtApi& api) {
  try {
    Owned<OrtCUDAProviderOptionsV2> cuda(api.ReleaseCUDAProviderOptions);
    check(api, api.CreateCUDAProviderOptions(cuda.out()));
    // Any option makes ONNX Runtime load the provider; `device_id` would ask the driver, too, whose faults are told
    // elsewhere.
    set_cuda_options(api, cuda.get(), {{"use_tf32", "0"}});
  } catch (const Fault& fault) {
    throw EngineError("ONNX Runtime has no CUDA provider that can be loaded (" + fault.line + ")",
                      "the library of the package onnxruntime-gpu, and the CUDA and cuDNN libraries of its version",
                      "set ALTERBUTE_ONNXRUNTIME to the library inside the onnxruntime-gpu wheel and LD_LIBRARY_PATH "
                      "to the folders of CUDA and cuDNN, or open the editor on the device 'cpu'");
  }
}

void add_cuda_provider(const OrtApi& api, OrtSessionOptions* options, const CudaProvider& provider) {
  Owned<OrtCUDAProviderOptionsV2> cuda(api.ReleaseCUDAProviderOptions);
  check(api, api.CreateCUDAProviderOptions(cuda.out()));
  set_cuda_options(api, cuda.get(),
                   {{"device_id", std::to_string(provider.device)},
                    {"enable_cuda_graph", provider.has_graphs ? "1" : "0"},
                    {"cudnn_conv_algo_search", "EXHAUSTIVE"},
                    // Few operators stay fp32: without TF32 they take no measurably longer.
                    {"use_tf32", "0"}});
  check(api, api.UpdateCUDAProviderOptionsWithValue(cuda.get(), "user_compute_stream", provider.stream));
  check(api, api.SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda.get()));
}

void check_is_on_device(const OrtApi& api, const OrtSession* session, int device) {
  Owned<OrtMemoryInfo> memory(api.ReleaseMemoryInfo);
  check(api, api.CreateMemoryInfo("Cuda", OrtDeviceAllocator, device, OrtMemTypeDefault, memory.out()));
  Owned<OrtAllocator> allocator(api.ReleaseAllocator);
  check(api, api.CreateAllocator(session, memory.get(), allocator.out()));
}

}  // namespace alterbute
