#include "backends/onnxruntime.hpp"

#include <dlfcn.h>
#include <onnxruntime_c_api.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "alterbute/errors.hpp"

namespace alterbute {
namespace {

// The oldest API that has what is used here (weights as bytes in memory: 1.18): every later library still has it.
constexpr std::uint32_t kApiVersion = 18;
constexpr std::array<const char*, 3> kNames = {"libonnxruntime.so.1", "libonnxruntime.so", "libonnxruntime.dylib"};

thread_local double engine_seconds_of_thread = 0;

// What went wrong in ONNX Runtime, in the form of its Python binding.
struct Fault {
  std::string line;
};

std::string code_name(OrtErrorCode code) {
  constexpr std::array<const char*, 12> kCodes = {"SUCCESS",           "FAIL",
                                                  "INVALID_ARGUMENT",  "NO_SUCHFILE",
                                                  "NO_MODEL",          "ENGINE_ERROR",
                                                  "RUNTIME_EXCEPTION", "INVALID_PROTOBUF",
                                                  "MODEL_LOADED",      "NOT_IMPLEMENTED",
                                                  "INVALID_GRAPH",     "EP_FAIL"};
  return static_cast<std::size_t>(code) < kCodes.size() ? kCodes[code] : "FAIL";
}

void check(const OrtApi& api, OrtStatus* status) {
  if (status == nullptr) return;
  const OrtErrorCode code = api.GetErrorCode(status);
  std::string message = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  message = message.substr(0, message.find_first_of("\r\n"));
  throw Fault{"[ONNXRuntimeError] : " + std::to_string(code) + " : " + code_name(code) + " : " + message};
}

// Owns one of the API's objects.
template <typename Object>
class Owned {
 public:
  explicit Owned(void (*release)(Object*)) : release_(release) {}
  ~Owned() {
    if (object_ != nullptr) release_(object_);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;

  Object* get() const { return object_; }
  Object** out() { return &object_; }
  Object* take() { return std::exchange(object_, nullptr); }

 private:
  void (*release_)(Object*);
  Object* object_ = nullptr;
};

constexpr std::array<std::pair<DType, ONNXTensorElementDataType>, 4> kTypes = {
    {{DType::uint8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8},
     {DType::uint16, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16},
     {DType::int64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
     {DType::float32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT}}};

ONNXTensorElementDataType element_type(DType dtype) {
  return std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& known) { return known.first == dtype; })->second;
}

DType dtype_of_output(ONNXTensorElementDataType type) {
  const auto* found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& known) { return known.second == type; });
  if (found == kTypes.end()) throw Fault{"an output is of ONNX type " + std::to_string(type)};
  return found->first;
}

std::vector<std::string> edge_names(const OrtApi& api, const OrtSession* session, bool is_input) {
  OrtAllocator* allocator = nullptr;
  check(api, api.GetAllocatorWithDefaultOptions(&allocator));
  std::size_t count = 0;
  check(api, is_input ? api.SessionGetInputCount(session, &count) : api.SessionGetOutputCount(session, &count));
  std::vector<std::string> names;
  for (std::size_t k = 0; k < count; ++k) {
    char* name = nullptr;
    check(api, is_input ? api.SessionGetInputName(session, k, allocator, &name)
                        : api.SessionGetOutputName(session, k, allocator, &name));
    names.emplace_back(name);
    check(api, api.AllocatorFree(allocator, name));
  }
  return names;
}

// The value's memory is the view's.
OrtValue* wrap(const OrtApi& api, const OrtMemoryInfo* memory, const ArrayView& view) {
  OrtValue* value = nullptr;
  check(api, api.CreateTensorWithDataAsOrtValue(memory, view.data, view.bytes(), view.shape.data(), view.shape.size(),
                                                element_type(view.dtype), &value));
  return value;
}

Array copy_out(const OrtApi& api, OrtValue* value) {
  Owned<OrtTensorTypeAndShapeInfo> info(api.ReleaseTensorTypeAndShapeInfo);
  check(api, api.GetTensorTypeAndShape(value, info.out()));
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  check(api, api.GetTensorElementType(info.get(), &type));
  std::size_t rank = 0;
  check(api, api.GetDimensionsCount(info.get(), &rank));
  Shape shape(rank);
  check(api, api.GetDimensions(info.get(), shape.data(), rank));
  Array array(dtype_of_output(type), std::move(shape));
  void* data = nullptr;
  check(api, api.GetTensorMutableData(value, &data));
  if (array.bytes() > 0) std::memcpy(array.as<unsigned char>(), data, array.bytes());
  return array;
}

void add_cuda(const OrtApi& api, OrtSessionOptions* options) {
  Owned<OrtCUDAProviderOptionsV2> cuda(api.ReleaseCUDAProviderOptions);
  check(api, api.CreateCUDAProviderOptions(cuda.out()));
  check(api, api.SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda.get()));
}

void* open_library(const std::string& path, std::string& fault) {
  const char* variable = std::getenv("ALTERBUTE_ONNXRUNTIME");
  std::vector<std::string> candidates;
  if (!path.empty()) {
    candidates = {path};
  } else if (variable != nullptr && *variable != '\0') {
    candidates = {variable};
  } else {
    candidates.assign(kNames.begin(), kNames.end());
  }
  for (const std::string& candidate : candidates) {
    // Only the first failure is reported: the further names are guesses.
    if (void* library = ::dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    const char* reason = ::dlerror();
    if (fault.empty()) fault = reason == nullptr ? candidate : reason;
  }
  return nullptr;
}

}  // namespace

std::shared_ptr<const OnnxRuntime> OnnxRuntime::load(const std::string& path) {
  std::string fault;
  void* library = open_library(path, fault);
  if (library == nullptr) {
    throw EngineError("ONNX Runtime is not found (" + fault + ")", "the library libonnxruntime.so.1, 1.18 or newer",
                      "set ALTERBUTE_ONNXRUNTIME to its path, such as that inside the onnxruntime wheel");
  }
  const auto get_base = reinterpret_cast<const OrtApiBase* (*)()>(::dlsym(library, "OrtGetApiBase"));
  const OrtApiBase* base = get_base == nullptr ? nullptr : get_base();
  const OrtApi* api = base == nullptr ? nullptr : base->GetApi(kApiVersion);
  if (api == nullptr) {
    throw EngineError(std::string("the ONNX Runtime library is of version ") +
                          (base == nullptr ? "unknown" : base->GetVersionString()),
                      "1.18 or newer", "set ALTERBUTE_ONNXRUNTIME to a newer one");
  }
  OrtEnv* env = nullptr;
  try {
    check(*api, api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "alterbute", &env));
  } catch (const Fault& reason) {
    throw EngineError("ONNX Runtime cannot start (" + reason.line + ")", "a working library",
                      "install ONNX Runtime again");
  }
  return std::make_shared<OnnxRuntime>(api, env);
}

OnnxRuntime::~OnnxRuntime() { api_->ReleaseEnv(env_); }

Session::Session(std::shared_ptr<const OnnxRuntime> runtime, std::string graph, const Bytes& model,
                 const Bytes& weights, const SessionOptions& settings)
    : runtime_(std::move(runtime)), graph_(std::move(graph)) {
  const OrtApi& api = runtime_->api();
  try {
    Owned<OrtSessionOptions> options(api.ReleaseSessionOptions);
    check(api, api.CreateSessionOptions(options.out()));
    check(api, api.SetSessionLogSeverityLevel(options.get(), ORT_LOGGING_LEVEL_ERROR));
    check(api, api.SetIntraOpNumThreads(options.get(), settings.threads));
    check(api, api.SetInterOpNumThreads(options.get(), 1));
    if (!settings.keeps_memory) check(api, api.DisableCpuMemArena(options.get()));
    // Passed even for a graph without weights: a session with such a table reads nothing else from disk.
    const char* name = kWeightsFile;
    char nothing = 0;
    char* data = weights.empty() ? &nothing : const_cast<char*>(weights.data());
    const std::size_t size = weights.size();
    check(api, api.AddExternalInitializersFromFilesInMemory(options.get(), &name, &data, &size, 1));
    if (settings.uses_cuda) add_cuda(api, options.get());
    Owned<OrtSession> session(api.ReleaseSession);
    check(api, api.CreateSessionFromArray(runtime_->env(), model.data(), model.size(), options.get(), session.out()));
    inputs_ = edge_names(api, session.get(), true);
    outputs_ = edge_names(api, session.get(), false);
    session_ = session.take();
  } catch (const Fault& fault) {
    throw EngineError("ONNX Runtime cannot load the graph '" + graph_ + "' (" + fault.line + ")",
                      "a graph that this version of ONNX Runtime supports",
                      "upgrade onnxruntime, or export the bundle again");
  }
}

Session::~Session() {
  if (session_ != nullptr) runtime_->api().ReleaseSession(session_);
}

Arrays Session::run(const ArrayViews& inputs, const ArrayViews& into) const {
  const OrtApi& api = runtime_->api();
  const auto start = std::chrono::steady_clock::now();
  Arrays results;
  // Values are released before anything is thrown, in any case.
  struct Values {
    const OrtApi& api;
    std::vector<OrtValue*> all;
    ~Values() {
      for (OrtValue* value : all) {
        if (value != nullptr) api.ReleaseValue(value);
      }
    }
  };
  try {
    Owned<OrtMemoryInfo> memory(api.ReleaseMemoryInfo);
    check(api, api.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, memory.out()));
    Values given{api, {}}, made{api, {}};
    std::vector<const char*> input_names, output_names;
    for (const std::string& name : inputs_) {
      const auto input = inputs.find(name);
      if (input == inputs.end()) throw Fault{"the input " + name + " is not given"};
      input_names.push_back(name.c_str());
      given.all.push_back(wrap(api, memory.get(), input->second));
    }
    for (const std::string& name : outputs_) {
      const auto place = into.find(name);
      output_names.push_back(name.c_str());
      made.all.push_back(place == into.end() ? nullptr : wrap(api, memory.get(), place->second));
    }
    check(api, api.Run(session_, nullptr, input_names.data(), given.all.data(), given.all.size(), output_names.data(),
                       output_names.size(), made.all.data()));
    for (std::size_t k = 0; k < outputs_.size(); ++k) {
      if (into.find(outputs_[k]) == into.end()) results.emplace(outputs_[k], copy_out(api, made.all[k]));
    }
  } catch (const Fault& fault) {
    throw EngineError("the graph '" + graph_ + "' failed in ONNX Runtime (" + fault.line + ")",
                      "a run with the manifest's shapes",
                      "verify the bundle with `alterbute verify`, or export it again");
  }
  engine_seconds_of_thread += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return results;
}

double engine_seconds() { return engine_seconds_of_thread; }

}  // namespace alterbute
