// A bundle's graphs: every session is made in the background, from verified bytes.
#pragma once

#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "alterbute/alterbute.hpp"
#include "bundle/bundle.hpp"
#include "backends/onnxruntime.hpp"

namespace alterbute {

// A launch of one slot or one row runs ONNX Runtime's matrix-vector kernels, which add in another order than its matrix
// kernels: from two of each on, a slot's bits do not depend on the other slots of its launch.
constexpr std::int64_t kMinSlots = 2, kMinRows = 2;

class Engines {
 public:
  // Throws EngineError when there is no ONNX Runtime, InputError for an unknown device.
  Engines(std::shared_ptr<const Bundle> bundle, const EditorOptions& options);
  ~Engines();
  Engines(const Engines&) = delete;
  Engines& operator=(const Engines&) = delete;

  // The first call of a graph waits until it is loaded. Throws EngineError or BundleError.
  Arrays run(const std::string& graph, const ArrayViews& inputs, const ArrayViews& into = {}) const;

  // Waits for every graph, and throws what went wrong.
  void wait() const;

 private:
  using Loaded = std::shared_ptr<const Session>;

  Loaded make_session(const std::string& graph) const;

  std::shared_ptr<const Bundle> bundle_;
  std::shared_ptr<const OnnxRuntime> runtime_;
  int threads_;
  bool uses_cuda_;
  std::shared_future<std::shared_ptr<const Bytes>> weights_;
  std::map<std::string, std::shared_future<Loaded>> sessions_;
  std::vector<std::thread> loaders_;
};

}  // namespace alterbute
