// The lane: the step graph's buffers and the loop over slots - admit, step, retire. A slot holds one image; images at
// different steps, with different solvers and guidance, share a launch.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "backends/engines.hpp"
#include "denoise/plan.hpp"

namespace alterbute {

// What a prompt became: text [T,D], and pooled [P] where the bundle has it.
struct EncodedPrompt {
  Array text;
  std::optional<Array> pooled;
};

// An encoded subject, all f32: scene [Cs,h,w], background [C,h,w], keep [1,h,w], and the identity given and null.
struct Scene {
  Array scene, background, keep;
  std::optional<Array> identity, null_identity;
};

// One image to denoise.
struct Job {
  Plan plan;
  std::shared_ptr<const Scene> scene;
  std::shared_ptr<const EncodedPrompt> prompt, negative;
  int index;  // of the image within the call
};

// One denoised image: its clean latent [1,C,h,w], and the seconds that it was in the lane.
struct JobResult {
  int index;
  Array latent;
  double seconds;
};

// Buffers for a number of slots; used by one thread, for one call.
class Lane {
 public:
  Lane(const Engines& engines, const Manifest& manifest, std::int64_t slots);

  // Denoises the jobs; `on_finished` is told of each as it ends. Throws Cancelled, or EngineError: the step graph
  // failed, or an image's numbers stopped being finite.
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

  void admit(Job job);
  void load(const Slot& slot);
  void pack();
  void place_row(std::size_t n, const PlacedRow& placed);
  void launch();
  void check_finite(const Slot& slot) const;
  Array take_latent(const Slot& slot) const;
  void clear(std::int64_t slot);
  // Null when the step graph has no such input.
  Array* input(const char* name);
  // Writes one slot's or row's part of an input, if the graph has that input.
  void put(const char* name, std::int64_t place, const void* values, std::size_t bytes);
  void put(const char* name, std::int64_t place, const Array& values) {
    put(name, place, values.as<unsigned char>(), values.bytes());
  }
  template <typename Number>
  void put_number(const char* name, std::int64_t place, Number value) {
    put(name, place, &value, sizeof value);
  }
  void fill_zero(const char* name, std::int64_t place);

  const Engines& engines_;
  const Manifest& manifest_;
  std::int64_t capacity_;
  std::size_t latent_count_;
  Arrays per_slot_, per_row_;
  Array state_, next_state_, guidance_;
  std::map<std::int64_t, Slot> slots_;
  std::vector<std::pair<std::int64_t, Rows>> layout_;
};

}  // namespace alterbute
