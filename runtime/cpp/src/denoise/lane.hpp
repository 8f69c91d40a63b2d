// The lane: the step graph's buffers and the loop over slots - admit, step, retire. A slot holds one image; images at
// different steps, with different solvers and guidance, share a launch.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "backends/engines.hpp"
#include "denoise/plan.hpp"

namespace alterbute {

// An encoded prompt: text [T,D], and pooled [P] where the bundle has it.
struct EncodedPrompt {
  Array text;
  std::optional<Array> pooled;
};

// An encoded subject, all f32: scene [Cs,h,w], background [C,h,w], keep [1,h,w], and the identity of the reference and
// the one that stands for no reference.
struct Scene {
  Array scene, background, keep;
  std::optional<Array> identity, null_identity;
};

// One image to denoise.
struct Job {
  Plan plan;
  std::shared_ptr<const Scene> scene;
  std::shared_ptr<const EncodedPrompt> prompt, negative;
  int index;   // of the image within the call
  int window;  // of the image's windows
};

// One image that left the lane: its clean latent [1,C,h,w], and the seconds that it was in the lane; or its fault, set
// when its numbers stopped being finite, and no latent.
struct JobResult {
  int index, window;
  Array latent;
  double seconds;
  std::optional<EngineError> fault;
};

// The inputs of a number of slots; used by one thread, for one call.
class Lane {
 public:
  Lane(const Engines& engines, const Manifest& manifest, std::int64_t slots);

  // Of the states of this many slots: [slots,K,C,h,w].
  static Shape state_shape(const Manifest& manifest, std::int64_t slots);

  // Denoises the jobs and calls `on_finished` for each as it ends. An image whose numbers stop being finite ends with a
  // fault, and the others keep the bytes that they have alone. When the last of them end, the state of the slots is
  // given back first, so that another call may go on. Throws Cancelled, or EngineError: the step graph failed.
  void run(std::deque<Job> jobs, const Callbacks& callbacks, const std::function<void(JobResult)>& on_finished);

 private:
  struct Slot {
    std::int64_t index;
    Job job;
    double admitted;
    std::size_t step = 0;
  };
  struct PlacedRow {
    std::int64_t slot;
    const Row* row;
    const Job* job;
  };

  using Indices = std::vector<std::int64_t>;

  void admit(Job job);
  void load(const Slot& slot);
  // One launch for all images in the lane; ends those whose numbers are not finite, and advances the others. Returns
  // those that ended.
  std::vector<JobResult> step(const Callbacks& callbacks, int images);
  // Lays out the rows of these slots for the next launch.
  void pack(const Indices& indices);
  void place_row(std::size_t n, const PlacedRow& placed);
  // Runs the step graph on the rows of these slots; whether all that it wrote for them is finite.
  bool launch(const Indices& indices);
  static EngineError not_finite(const Slot& slot);
  JobResult retire(std::int64_t index, std::optional<EngineError> fault);
  void clear(std::int64_t slot);
  // Null when the step graph has no such input.
  Array* input(const char* name);
  // Writes one slot's or row's part of an input, if the graph has that input.
  void put(const char* name, std::int64_t place, const void* values, std::size_t bytes);
  void put(const char* name, std::int64_t place, const Array& values) {
    put(name, place, values.as<unsigned char>(), values.bytes());
  }
  // Writes one row's part of an input that another graph makes. Throws BundleError: the graph has the input, and there
  // are no values.
  void put_known(const char* name, std::int64_t place, const std::optional<Array>& values);
  template <typename Number>
  void put_number(const char* name, std::int64_t place, Number value) {
    put(name, place, &value, sizeof value);
  }
  void fill_zero(const char* name, std::int64_t place);

  const Manifest& manifest_;
  std::unique_ptr<StepState> state_;
  std::int64_t capacity_;
  std::size_t latent_count_;
  Arrays per_slot_, per_row_;
  Array guidance_;
  std::set<std::string> changed_;  // inputs that were written since the last launch
  std::map<std::int64_t, Slot> slots_;
  std::vector<std::pair<std::int64_t, Rows>> layout_;
};

}  // namespace alterbute
