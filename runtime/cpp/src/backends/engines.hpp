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
#include "backends/check_outputs.hpp"
#include "backends/cuda/cuda_backend.hpp"
#include "backends/onnxruntime.hpp"
#include "backends/step_state.hpp"

namespace alterbute {

class Engines {
 public:
  // Throws EngineError when there is no ONNX Runtime or CUDA cannot be used, InputError for an unknown device.
  Engines(std::shared_ptr<const Bundle> bundle, const EditorOptions& options);
  ~Engines();
  Engines(const Engines&) = delete;
  Engines& operator=(const Engines&) = delete;

  // The first call of a graph waits until it is loaded. Outputs have the manifest's types and sizes: free ones the sizes
  // of the window and its latent, those in `sizes`, or those of the inputs. Throws EngineError or BundleError.
  Arrays run(const std::string& graph, const ArrayViews& inputs, const ArrayViews& into = {},
             AxisSizes sizes = {}) const;

  // State [slots,K,C,h,w] for launches of the step graph up to `most`; on a GPU, that of the editor's slots, which
  // belongs to one call at a time. Throws EngineError.
  std::unique_ptr<StepState> open_step_state(const Shape& state, const LaunchShape& most) const;

  // Waits for every graph, and throws what went wrong.
  void wait() const;
  // Waits; on a GPU runs every graph once, on zeros, and captures the step graph. `state` is as above.
  void warm_up(const Shape& state) const;

 private:
  using Loaded = std::shared_ptr<const Session>;

  const Variant& variant(const std::string& graph) const;
  bool has_graph(const std::string& graph) const;
  Weights read_weights() const;
  Bytes read_checked(const std::string& graph) const;
  Loaded make_session(const std::string& graph) const;
  StepGraphs step_graphs(const Shape& state) const;

  std::shared_ptr<const Bundle> bundle_;
  std::shared_ptr<const OnnxRuntime> runtime_;
  int threads_, slots_;
  bool exact_;
  std::unique_ptr<CudaBackend> cuda_;  // null: every graph runs on the CPU
  std::shared_future<std::shared_ptr<const Weights>> weights_;
  std::map<std::string, std::shared_future<Loaded>> sessions_;
  std::vector<std::thread> loaders_;
};

}  // namespace alterbute
