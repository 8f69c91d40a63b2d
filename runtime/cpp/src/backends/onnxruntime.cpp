#include "backends/onnxruntime.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "alterbute/errors.hpp"
#include "backends/cuda/cuda_provider.hpp"
#include "backends/ort_objects.hpp"

namespace alterbute {
namespace {

// The oldest library that runs the graphs of today's exporter: 1.20 has no kernels for opset 19 and later of some
// operators. Tested; every later library still has this version of the API.
constexpr std::uint32_t kApiVersion = 21;
constexpr const char* kOldest = "1.21";
static_assert(ORT_API_VERSION >= kApiVersion, "the headers are of an ONNX Runtime before 1.21");

constexpr std::array<const char*, 3> kNames = {"libonnxruntime.so.1", "libonnxruntime.so", "libonnxruntime.dylib"};

thread_local double engine_seconds_of_thread = 0;

void describe(const OrtApi& api, const OrtTypeInfo* type, Edge& edge) {
  const OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api, api.CastTypeInfoToTensorInfo(type, &info));
  if (info == nullptr) throw Fault{"the graph's " + edge.name + " is no tensor"};
  ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  check(api, api.GetTensorElementType(info, &element));
  edge.type = element;
  std::size_t rank = 0;
  check(api, api.GetDimensionsCount(info, &rank));
  edge.shape.resize(rank);
  check(api, api.GetDimensions(info, edge.shape.data(), rank));
  std::vector<const char*> axes(rank, "");
  check(api, api.GetSymbolicDimensions(info, axes.data(), rank));
  edge.axes.assign(axes.begin(), axes.end());
}

std::vector<Edge> edges_of(const OrtApi& api, const OrtSession* session, bool is_input) {
  OrtAllocator* allocator = nullptr;
  check(api, api.GetAllocatorWithDefaultOptions(&allocator));
  std::size_t count = 0;
  check(api, is_input ? api.SessionGetInputCount(session, &count) : api.SessionGetOutputCount(session, &count));
  std::vector<Edge> edges;
  for (std::size_t k = 0; k < count; ++k) {
    char* name = nullptr;
    check(api, is_input ? api.SessionGetInputName(session, k, allocator, &name)
                        : api.SessionGetOutputName(session, k, allocator, &name));
    Edge edge{name, 0, {}, {}};
    check(api, api.AllocatorFree(allocator, name));
    Owned<OrtTypeInfo> type(api.ReleaseTypeInfo);
    check(api, is_input ? api.SessionGetInputTypeInfo(session, k, type.out())
                        : api.SessionGetOutputTypeInfo(session, k, type.out()));
    describe(api, type.get(), edge);
    edges.push_back(std::move(edge));
  }
  return edges;
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
    throw EngineError("ONNX Runtime is not found (" + fault + ")", std::string("the library libonnxruntime.so.1, ") + kOldest + " or newer",
                      "set ALTERBUTE_ONNXRUNTIME to its path, such as that inside the onnxruntime wheel");
  }
  const auto get_base = reinterpret_cast<const OrtApiBase* (*)()>(::dlsym(library, "OrtGetApiBase"));
  const OrtApiBase* base = get_base == nullptr ? nullptr : get_base();
  const OrtApi* api = base == nullptr ? nullptr : base->GetApi(kApiVersion);
  if (api == nullptr) {
    throw EngineError(std::string("the ONNX Runtime library is of version ") +
                          (base == nullptr ? "unknown" : base->GetVersionString()),
                      std::string(kOldest) + " or newer",
                      "set ALTERBUTE_ONNXRUNTIME to the library of a newer onnxruntime");
  }
  OrtEnv* env = nullptr;
  try {
    // Errors are thrown; what the library would print besides holds names of the graph as they are.
    check(*api, api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "alterbute", &env));
  } catch (const Fault& reason) {
    throw EngineError("ONNX Runtime cannot start (" + reason.line + ")", "a working library",
                      "install ONNX Runtime again");
  }
  return std::make_shared<OnnxRuntime>(api, env);
}

OnnxRuntime::~OnnxRuntime() { api_->ReleaseEnv(env_); }

Session::Session(std::shared_ptr<const OnnxRuntime> runtime, std::string graph, const Bytes& model,
                 const Weights& weights, const SessionOptions& settings)
    : runtime_(std::move(runtime)), graph_(std::move(graph)) {
  const OrtApi& api = runtime_->api();
  try {
    Owned<OrtSessionOptions> options(api.ReleaseSessionOptions);
    check(api, api.CreateSessionOptions(options.out()));
    check(api, api.SetSessionLogSeverityLevel(options.get(), ORT_LOGGING_LEVEL_FATAL));
    check(api, api.SetIntraOpNumThreads(options.get(), settings.threads));
    check(api, api.SetInterOpNumThreads(options.get(), 1));
    if (!settings.keeps_memory) check(api, api.DisableCpuMemArena(options.get()));
    // Whatever its first bytes look like, it is read as the protobuf that was checked.
    check(api, api.AddSessionConfigEntry(options.get(), "session.load_model_format", "ONNX"));
    // Passed even for a graph without weights: a session with such a table reads nothing else from disk.
    char nothing = 0;
    std::vector<const char*> names;
    std::vector<char*> data;
    std::vector<std::size_t> sizes;
    const auto add = [&](const char* name, char* bytes, std::size_t size) {
      names.push_back(name), data.push_back(bytes), sizes.push_back(size);
    };
    for (const auto& [name, bytes] : weights) add(name.c_str(), const_cast<char*>(bytes.data()), bytes.size());
    if (weights.empty()) add(kWeightsFile, &nothing, 0);
    check(api, api.AddExternalInitializersFromFilesInMemory(options.get(), names.data(), data.data(), sizes.data(),
                                                            names.size()));
    if (settings.cuda) add_cuda_provider(api, options.get(), *settings.cuda);
    Owned<OrtSession> session(api.ReleaseSession);
    check(api, api.CreateSessionFromArray(runtime_->env(), model.data(), model.size(), options.get(), session.out()));
    if (settings.cuda) check_is_on_device(api, session.get(), settings.cuda->device);
    inputs_ = edges_of(api, session.get(), true);
    outputs_ = edges_of(api, session.get(), false);
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
    for (const Edge& edge : inputs_) {
      const auto input = inputs.find(edge.name);
      if (input == inputs.end()) throw Fault{"the input " + edge.name + " is not given"};
      input_names.push_back(edge.name.c_str());
      given.all.push_back(wrap(api, memory.get(), input->second));
    }
    for (const Edge& edge : outputs_) {
      const auto place = into.find(edge.name);
      output_names.push_back(edge.name.c_str());
      made.all.push_back(place == into.end() ? nullptr : wrap(api, memory.get(), place->second));
    }
    check(api, api.Run(session_, nullptr, input_names.data(), given.all.data(), given.all.size(), output_names.data(),
                       output_names.size(), made.all.data()));
    for (std::size_t k = 0; k < outputs_.size(); ++k) {
      const std::string& name = outputs_[k].name;
      if (into.find(name) == into.end()) results.emplace(name, copy_out(api, made.all[k]));
    }
  } catch (const Fault& fault) {
    throw run_fault(graph_, fault.line);
  }
  add_engine_seconds(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  return results;
}

EngineError run_fault(const std::string& graph, const std::string& line) {
  return {"the graph '" + graph + "' failed in ONNX Runtime (" + line + ")", "a run with the manifest's shapes",
          "verify the bundle with `alterbute verify`, or export it again"};
}

double engine_seconds() { return engine_seconds_of_thread; }

void add_engine_seconds(double seconds) { engine_seconds_of_thread += seconds; }

}  // namespace alterbute
