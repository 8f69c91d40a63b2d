// ONNX Runtime through its C API, found with dlopen: one build runs with the CPU and GPU libraries of several versions.
#pragma once

#include <memory>
#include <string>
#include <vector>

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
  bool uses_cuda = false;
  bool keeps_memory = true;  // of a run for the next one
};

// One graph, ready to run; run() may be called from several threads at once.
class Session {
 public:
  // `weights` may go once this returns. Throws EngineError.
  Session(std::shared_ptr<const OnnxRuntime> runtime, std::string graph, const Bytes& model, const Bytes& weights,
          const SessionOptions& options);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Inputs that the graph does not have are not fed. Outputs named in `into` are written there; the others are
  // returned. Throws EngineError.
  Arrays run(const ArrayViews& inputs, const ArrayViews& into = {}) const;

 private:
  std::shared_ptr<const OnnxRuntime> runtime_;
  std::string graph_;
  OrtSession* session_ = nullptr;
  std::vector<std::string> inputs_, outputs_;
};

// Seconds that this thread has spent inside Session::run so far.
double engine_seconds();

}  // namespace alterbute
