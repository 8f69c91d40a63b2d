// ONNX Runtime through its C API, found with dlopen: one build runs with the CPU and GPU libraries of several versions.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "alterbute/errors.hpp"
#include "backends/cuda/cuda_provider.hpp"
#include "base/array.hpp"
#include "bundle/bundle.hpp"

struct OrtApi;
struct OrtEnv;
struct OrtSession;

namespace alterbute {

// The loaded library. It is never unloaded: it may have threads and exit handlers of its own.
class OnnxRuntime {
 public:
  // An empty path takes $ALTERBUTE_ONNXRUNTIME, or the system's libonnxruntime. Throws EngineError.
  static std::shared_ptr<const OnnxRuntime> load(const std::string& path);

  OnnxRuntime(const OrtApi* api, OrtEnv* env) : api_(api), env_(env) {}
  ~OnnxRuntime();
  OnnxRuntime(const OnnxRuntime&) = delete;
  OnnxRuntime& operator=(const OnnxRuntime&) = delete;

  const OrtApi& api() const { return *api_; }
  OrtEnv* env() const { return env_; }

 private:
  const OrtApi* api_;
  OrtEnv* env_;
};

struct SessionOptions {
  int threads = 1;
  std::optional<CudaProvider> cuda;
  bool keeps_memory = true;  // of a run for the next one
};

// External data files by name, as the graphs refer to them.
using Weights = std::map<std::string, Bytes>;

// One input or output of a session: its ONNX element type, and its sizes, 0 or less where `axes` has a name.
struct Edge {
  std::string name;
  int type = 0;
  Shape shape;
  std::vector<std::string> axes;
};

// One graph, ready to run; run() may be called from several threads at once.
class Session {
 public:
  // `weights` may go once this returns. Throws EngineError.
  Session(std::shared_ptr<const OnnxRuntime> runtime, std::string graph, const Bytes& model, const Weights& weights,
          const SessionOptions& options);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Inputs that the graph does not have are not fed. Outputs named in `into` are written there; the others are
  // returned. Throws EngineError.
  Arrays run(const ArrayViews& inputs, const ArrayViews& into = {}) const;

  const std::string& graph() const { return graph_; }
  const std::vector<Edge>& inputs() const { return inputs_; }
  const std::vector<Edge>& outputs() const { return outputs_; }
  const OnnxRuntime& runtime() const { return *runtime_; }
  OrtSession* handle() const { return session_; }

 private:
  std::shared_ptr<const OnnxRuntime> runtime_;
  std::string graph_;
  OrtSession* session_ = nullptr;
  std::vector<Edge> inputs_, outputs_;
};

// The error of a run that failed with this line of ONNX Runtime.
EngineError run_fault(const std::string& graph, const std::string& line);

// Seconds that this thread has spent in graphs so far, and seconds to add to them.
double engine_seconds();
void add_engine_seconds(double seconds);

}  // namespace alterbute
