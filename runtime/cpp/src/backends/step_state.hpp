// The state of the step graph's slots, kept where the graph runs from the first step to the last.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>

#include "base/array.hpp"
#include "bundle/manifest.hpp"

namespace alterbute {

// Two state buffers: a launch reads one and writes the other, and `flip` swaps them without a copy. Used by one thread.
class StepState {
 public:
  StepState() = default;
  virtual ~StepState() = default;
  StepState(const StepState&) = delete;
  StepState& operator=(const StepState&) = delete;

  // The largest launch, for which the caller's inputs are allocated.
  virtual LaunchShape largest() const = 0;
  // The shape at which this many slots and rows are launched. Throws EngineError: more than any launch holds.
  virtual LaunchShape launch_shape(std::int64_t slots, std::int64_t rows) const = 0;
  // Copies a state [K,C,h,w] f32 into a slot of the buffer that the next launch reads.
  virtual void write_slot(std::int64_t slot, const float* state) = 0;
  // Runs the step graph once; without a flip afterwards, the next launch starts from the same state. `inputs` are all
  // but `state`, at a launch shape; `changed` names those that may differ from the last launch. Throws EngineError.
  virtual void launch(const ArrayViews& inputs, const std::set<std::string>& changed) = 0;
  // Whether the last launch wrote only finite numbers for a slot; true where a check would wait for a device.
  virtual bool is_finite(std::int64_t slot) const = 0;
  virtual void flip() = 0;
  // Copies a slot's latent [C,h,w] f32, after all launches before.
  virtual void read_latent(std::int64_t slot, float* latent) = 0;
};

// State in the host's memory, for a step graph that runs on the CPU.
class HostStepState : public StepState {
 public:
  using RunStep = std::function<void(const ArrayViews& inputs, const ArrayViews& into)>;

  // `state` is [slots,K,C,h,w]; `least` is the smallest launch.
  HostStepState(const Shape& state, const LaunchShape& least, const LaunchShape& most, RunStep run);

  LaunchShape largest() const override { return most_; }
  LaunchShape launch_shape(std::int64_t slots, std::int64_t rows) const override;
  void write_slot(std::int64_t slot, const float* state) override;
  void launch(const ArrayViews& inputs, const std::set<std::string>& changed) override;
  bool is_finite(std::int64_t slot) const override;
  void flip() override { std::swap(state_, next_); }
  void read_latent(std::int64_t slot, float* latent) override;

 private:
  LaunchShape least_, most_;
  RunStep run_;
  Array state_, next_;
  std::size_t slot_count_, latent_count_;  // numbers of a slot's state and of its latent
};

}  // namespace alterbute
