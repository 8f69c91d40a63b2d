// The step graph on a GPU: state and inputs stay there, and every launch is captured once for each bucket and
// direction.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "backends/bound_run.hpp"
#include "backends/cuda/cuda_device.hpp"
#include "backends/cuda/upload_ring.hpp"

namespace alterbute {

// What is launched, and for which sizes. `state` is that of one slot, [K,C,h,w].
struct StepGraphs {
  const Session* step = nullptr;
  const Session* prologue = nullptr;  // makes some of the step graph's inputs from row inputs; null: none does
  std::vector<LaunchShape> buckets;
  Shape state;
  std::int64_t tokens = 0;
};

// Used on the device's thread, but for write_slot, flip and restart. Inputs have one buffer each for the largest
// bucket: a smaller one uses its beginning, so that addresses never change and captured graphs stay valid.
class CudaSteps {
 public:
  // Throws EngineError: the graphs have sizes that are not known; or DeviceError.
  CudaSteps(CudaDevice& device, const StepGraphs& graphs, const MemoryKind& kind);
  CudaSteps(const CudaSteps&) = delete;
  CudaSteps& operator=(const CudaSteps&) = delete;

  const std::vector<LaunchShape>& buckets() const { return graphs_.buckets; }

  // Forgets what was uploaded: the next launch sends every input.
  void restart();
  // The state goes to the device with the next launch.
  void write_slot(std::int64_t slot, const float* state);
  // Enqueues uploads, the prologue if one of its inputs changed, and the step graph; returns without waiting.
  void launch(const ArrayViews& inputs, const std::set<std::string>& changed);
  void flip() { turn_ = 1 - turn_; }
  // Waits for the launches before.
  void read_latent(std::int64_t slot, float* latent);
  // Captures every bucket in both directions, and waits.
  void warm_up();
  // Frees launches, buffers and pinned memory.
  void close();

 private:
  using Key = std::tuple<std::int64_t, std::int64_t, int>;  // slots, rows, direction

  void allocate();
  // A shape at a bucket. Throws EngineError: an axis has a name that stands for no known size.
  Shape shape_of(const Edge& edge, const LaunchShape& at) const;
  std::size_t bytes_of(const Edge& edge, const LaunchShape& at) const;
  std::map<std::string, Place> places(const LaunchShape& at) const;
  // Returns whether an input of the prologue is among what was sent.
  bool upload(const ArrayViews& inputs, const std::set<std::string>& changed, bool sends_all, const LaunchShape& at);
  void run_prologue(const LaunchShape& at);
  void run_step(const LaunchShape& at);

  CudaDevice& device_;
  StepGraphs graphs_;
  MemoryKind kind_;
  LaunchShape most_;
  std::size_t slot_bytes_, latent_bytes_;
  std::vector<Edge> uploaded_, made_;  // inputs that the host writes, and those that the prologue writes
  std::set<std::string> prologue_inputs_;
  std::map<std::string, void*> buffers_;
  std::array<void*, 2> states_ = {nullptr, nullptr};
  void* pinned_ = nullptr;
  std::unique_ptr<UploadRing> small_, large_;
  std::map<Key, std::unique_ptr<BoundRun>> launches_;
  std::map<std::int64_t, std::unique_ptr<BoundRun>> prologues_;  // by rows
  std::map<std::int64_t, std::vector<float>> pending_;           // states by slot
  std::optional<LaunchShape> last_;
  int turn_ = 0, num_captures_ = 0;
};

}  // namespace alterbute
