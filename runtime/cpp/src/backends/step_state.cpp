#include "backends/step_state.hpp"

#include <algorithm>
#include <cmath>

namespace alterbute {
namespace {

Shape with_slots(std::int64_t slots, Shape state) {
  state[0] = slots;
  return state;
}

}  // namespace

HostStepState::HostStepState(const Shape& state, const LaunchShape& least, const LaunchShape& most, RunStep run)
    : least_(least),
      most_{std::max(least.slots, most.slots), std::max(least.rows, most.rows)},
      run_(std::move(run)),
      state_(make_array<float>(with_slots(most_.slots, state))),
      next_(state_),
      slot_count_(state_.count() / static_cast<std::size_t>(most_.slots)),
      latent_count_(slot_count_ / static_cast<std::size_t>(state[1])) {}

LaunchShape HostStepState::launch_shape(std::int64_t slots, std::int64_t rows) const {
  return {std::max(slots, least_.slots), std::max(rows, least_.rows)};
}

void HostStepState::write_slot(std::int64_t slot, const float* state) {
  std::copy(state, state + slot_count_, state_.as<float>() + static_cast<std::size_t>(slot) * slot_count_);
}

void HostStepState::launch(const ArrayViews& inputs, const std::set<std::string>&) {
  const std::int64_t slots = inputs.at("guidance").shape[0];
  ArrayViews all = inputs;
  all["state"] = state_.head(slots);
  run_(all, {{"next_state", next_.head(slots)}});
}

bool HostStepState::is_finite(std::int64_t slot) const {
  const float* state = next_.as<float>() + static_cast<std::size_t>(slot) * slot_count_;
  return std::all_of(state, state + slot_count_, [](float value) { return std::isfinite(value); });
}

void HostStepState::read_latent(std::int64_t slot, float* latent) {
  const float* state = state_.as<float>() + static_cast<std::size_t>(slot) * slot_count_;
  std::copy(state, state + latent_count_, latent);
}

}  // namespace alterbute
