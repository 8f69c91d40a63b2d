#include "denoise/lane.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "denoise/noise.hpp"

namespace alterbute {
namespace {

constexpr std::int64_t kMaxRowsPerSlot = 3;
constexpr auto kRows = static_cast<std::int64_t>(kStateRows);

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

Shape with_first(std::int64_t first, const Shape& rest) {
  Shape shape = {first};
  shape.insert(shape.end(), rest.begin(), rest.end());
  return shape;
}

void keep_known(Arrays& arrays, const Graph& graph) {
  for (auto entry = arrays.begin(); entry != arrays.end();)
    entry = graph.has_input(entry->first) ? std::next(entry) : arrays.erase(entry);
}

}  // namespace

Shape Lane::state_shape(const Manifest& manifest, std::int64_t slots) {
  return {slots, kRows, manifest.latent_channels, manifest.latent_side(), manifest.latent_side()};
}

Lane::Lane(const Engines& engines, const Manifest& manifest, std::int64_t slots)
    : manifest_(manifest),
      state_(engines.open_step_state(state_shape(manifest, slots), {slots, slots * kMaxRowsPerSlot})),
      capacity_(std::min(slots, state_->largest().slots)) {
  const std::int64_t side = manifest.latent_side(), places = state_->largest().slots, rows = state_->largest().rows;
  const Shape latent = {manifest.latent_channels, side, side};
  latent_count_ = count_of(latent);
  const auto floats = [](Shape shape) { return make_array<float>(std::move(shape)); };
  per_slot_["noise"] = floats(with_first(places, latent));
  per_slot_["timestep"] = floats({places});
  per_slot_["solver"] = floats({places, kRows, kRows + 2});
  per_slot_["reinject"] = floats({places, 2});
  per_slot_["background"] = floats(with_first(places, latent));
  per_slot_["background_noise"] = floats(with_first(places, latent));
  per_slot_["keep"] = floats({places, 1, side, side});
  per_slot_["scene"] = floats({places, manifest.scene_channels, side, side});
  per_slot_["guidance_rescale"] = floats({places});
  per_slot_["rescale_row"] = make_array<std::int64_t>({places});
  per_row_["owner"] = make_array<std::int64_t>({rows});
  per_row_["source_on"] = floats({rows});
  per_row_["text"] = floats({rows, manifest.text.tokens, manifest.text.dim});
  per_row_["pooled"] = floats({rows, manifest.text.pooled});
  per_row_["identity"] = floats(with_first(rows, manifest.identity ? manifest.identity->shape : Shape{0}));
  per_row_["identity_scale"] = floats({rows});
  if (manifest.time_ids) {
    per_row_["time_ids"] = floats({rows, static_cast<std::int64_t>(manifest.time_ids->size())});
    float* to = per_row_["time_ids"].as<float>();
    for (std::int64_t row = 0; row < rows; ++row)
      to = std::transform(manifest.time_ids->begin(), manifest.time_ids->end(), to,
                          [](double id) { return static_cast<float>(id); });
  }
  keep_known(per_slot_, manifest.graph("step"));
  keep_known(per_row_, manifest.graph("step"));
}

void Lane::run(std::deque<Job> waiting, const Callbacks& callbacks, const std::function<void(JobResult)>& on_finished) {
  const int images = static_cast<int>(waiting.size());
  while (!waiting.empty() || !slots_.empty()) {
    if (callbacks.cancel && callbacks.cancel())
      throw Cancelled("the edit was cancelled", "no cancellation", "ask for it again");
    while (!waiting.empty() && static_cast<std::int64_t>(slots_.size()) < capacity_) {
      admit(std::move(waiting.front()));
      waiting.pop_front();
    }
    std::vector<JobResult> ended = step(callbacks, images);
    if (waiting.empty() && slots_.empty()) state_.reset();
    for (JobResult& result : ended) on_finished(std::move(result));
  }
}

std::vector<JobResult> Lane::step(const Callbacks& callbacks, int images) {
  std::vector<JobResult> ended;
  Indices indices;
  for (const auto& [index, slot] : slots_) {
    load(slot);
    indices.push_back(index);
  }
  if (!launch(indices)) {
    // Guidance sums over all rows of a launch, so one NaN shows in every slot: each is tried alone, from the same
    // state.
    Indices finite, broken;
    for (const std::int64_t index : indices)
      (indices.size() > 1 && launch({index}) ? finite : broken).push_back(index);
    for (const std::int64_t index : broken) ended.push_back(retire(index, not_finite(slots_.at(index))));
    if (finite.empty()) return ended;
    launch(finite);
    indices = std::move(finite);
  }
  state_->flip();
  for (const std::int64_t index : indices) {
    Slot& slot = slots_.at(index);
    ++slot.step;
    const auto steps = slot.job.plan.steps();
    if (callbacks.progress)
      callbacks.progress({slot.job.index, images, static_cast<int>(slot.step), static_cast<int>(steps)});
  }
  for (const std::int64_t index : indices)
    if (slots_.at(index).step == slots_.at(index).job.plan.steps()) ended.push_back(retire(index, std::nullopt));
  return ended;
}

JobResult Lane::retire(std::int64_t index, std::optional<EngineError> fault) {
  const Slot& slot = slots_.at(index);
  Array latent;
  if (!fault) {
    latent = make_array<float>({1, manifest_.latent_channels, manifest_.latent_side(), manifest_.latent_side()});
    auto* values = latent.as<float>();
    state_->read_latent(index, values);
    // On a device, states are not checked between steps, which would stall it; they are checked here.
    if (!std::all_of(values, values + latent.count(), [](float value) { return std::isfinite(value); })) {
      fault = not_finite(slot);
      latent = Array();
    }
  }
  JobResult result{slot.job.index, slot.job.window, std::move(latent), now() - slot.admitted, std::move(fault)};
  clear(index);
  slots_.erase(index);
  return result;
}

EngineError Lane::not_finite(const Slot& slot) {
  const std::size_t steps = slot.job.plan.steps();
  return {"the step graph gave numbers that are not finite by step " + std::to_string(std::min(slot.step + 1, steps)) +
              " of " + std::to_string(steps),
          "finite latents", "try other guidance or another seed; if it stays, export the bundle again"};
}

void Lane::admit(Job job) {
  std::int64_t index = 0;
  while (slots_.count(index) != 0) ++index;
  const Slot& slot = slots_.emplace(index, Slot{index, std::move(job), now()}).first->second;
  const Plan& plan = slot.job.plan;
  const Scene& seen = *slot.job.scene;
  if (seen.background.bytes() != latent_count_ * sizeof(float)) {
    throw EngineError("the scene graph gives a background of " + std::to_string(seen.background.bytes()) + " bytes",
                      std::to_string(latent_count_ * sizeof(float)), "export the bundle again");
  }
  std::vector<float> noise(latent_count_);
  draw_noise(plan.seed, plan.image, 0, noise.data(), noise.size());
  std::vector<float> state(kStateRows * latent_count_);
  const float* background = seen.background.as<float>();
  for (std::size_t k = 0; k < latent_count_; ++k)
    state[k] = plan.solver.start[0] * background[k] + plan.solver.start[1] * noise[k];
  state_->write_slot(index, state.data());
  put("background", index, seen.background);
  put("background_noise", index, noise.data(), noise.size() * sizeof(float));
  if (plan.reinject) {
    put("keep", index, seen.keep);
  } else {
    fill_zero("keep", index);
  }
  put("scene", index, seen.scene);
  put_number("guidance_rescale", index, static_cast<float>(plan.guidance_rescale));
}

// Writes the inputs of this step of one slot.
void Lane::load(const Slot& slot) {
  const Plan& plan = slot.job.plan;
  const std::size_t k = slot.step;
  put_number("timestep", slot.index, plan.solver.timestep[k]);
  put("solver", slot.index, plan.solver.matrix[k].data(), sizeof plan.solver.matrix[k]);
  put("reinject", slot.index, plan.solver.level[k].data(), sizeof plan.solver.level[k]);
  const auto noise = per_slot_.find("noise");
  if (plan.is_noisy[k] && noise != per_slot_.end()) {
    draw_noise(plan.seed, plan.image, static_cast<std::uint32_t>(k + 1),
               noise->second.as<float>() + static_cast<std::size_t>(slot.index) * latent_count_, latent_count_);
    changed_.insert(noise->first);
  }
}

// Most steps change no row: the layout of the launch before is kept then.
void Lane::pack(const Indices& indices) {
  std::vector<std::pair<std::int64_t, Rows>> layout;
  std::vector<PlacedRow> placed;
  for (const std::int64_t index : indices) {
    const Slot& slot = slots_.at(index);
    const Rows& rows = slot.job.plan.rows[slot.step];
    layout.emplace_back(index, rows);
    for (const Row& row : rows) placed.push_back({index, &row, &slot.job});
  }
  if (layout == layout_) return;
  layout_ = std::move(layout);
  const auto [places, rows] =
      state_->launch_shape(placed.back().slot + 1, static_cast<std::int64_t>(placed.size()));
  guidance_ = make_array<float>({places, rows});
  changed_.insert("guidance");
  for (const auto& [name, array] : per_row_) changed_.insert(name);
  // A launch may hold fewer rows than the last one: every index points at something that is packed here.
  if (const auto entry = per_row_.find("owner"); entry != per_row_.end()) {
    auto* owner = entry->second.as<std::int64_t>();
    std::fill(owner, owner + entry->second.shape()[0], placed[0].slot);
  }
  if (const auto entry = per_slot_.find("rescale_row"); entry != per_slot_.end()) {
    auto* rescale_row = entry->second.as<std::int64_t>();
    std::fill(rescale_row, rescale_row + entry->second.shape()[0], 0);
    changed_.insert(entry->first);
  }
  for (std::size_t n = 0; n < placed.size(); ++n) {
    place_row(n, placed[n]);
    guidance_.as<float>()[placed[n].slot * rows + static_cast<std::int64_t>(n)] =
        static_cast<float>(placed[n].row->weight);
    if (!placed[n].row->is_negative) put_number("rescale_row", placed[n].slot, static_cast<std::int64_t>(n));
  }
  // Unused places repeat the first row at weight 0.
  for (std::size_t n = placed.size(); static_cast<std::int64_t>(n) < rows; ++n) place_row(n, placed[0]);
}

void Lane::place_row(std::size_t n, const PlacedRow& placed) {
  const auto place = static_cast<std::int64_t>(n);
  const EncodedPrompt& prompt = placed.row->is_negative ? *placed.job->negative : *placed.job->prompt;
  const auto& identity = placed.row->is_null ? placed.job->scene->null_identity : placed.job->scene->identity;
  put_number("owner", place, placed.slot);
  put_number("source_on", place, placed.row->source_on);
  put("text", place, prompt.text);
  put_known("pooled", place, prompt.pooled);
  put_known("identity", place, identity);
  put_number("identity_scale", place, static_cast<float>(placed.job->plan.identity_scale));
}

// The buffer may still hold another row's values.
void Lane::put_known(const char* name, std::int64_t place, const std::optional<Array>& values) {
  if (input(name) == nullptr) return;
  if (!values) {
    const std::string quoted = "`" + std::string(name) + "`";
    throw BundleError("the step graph has the input " + quoted + ", and no graph of the bundle makes it",
                      quoted + " among the outputs of the prompt or identity graph", "export the bundle again");
  }
  put(name, place, *values);
}

bool Lane::launch(const Indices& indices) {
  pack(indices);
  const std::int64_t places = guidance_.shape()[0], rows = guidance_.shape()[1];
  ArrayViews inputs = {{"guidance", guidance_.view()}};
  for (const auto& [name, array] : per_slot_) inputs[name] = array.head(places);
  for (const auto& [name, array] : per_row_) inputs[name] = array.head(rows);
  state_->launch(inputs, changed_);
  changed_.clear();
  return std::all_of(indices.begin(), indices.end(), [this](std::int64_t slot) { return state_->is_finite(slot); });
}

// Makes a slot idle: it owns no row and its solver is 0, so its old values stay finite and are not read.
void Lane::clear(std::int64_t slot) {
  for (const char* name : {"noise", "solver", "reinject", "keep", "guidance_rescale", "rescale_row"})
    fill_zero(name, slot);
  // The next image in this slot may have equal rows with other conditioning.
  layout_.clear();
}

Array* Lane::input(const char* name) {
  for (Arrays* arrays : {&per_slot_, &per_row_}) {
    if (const auto entry = arrays->find(name); entry != arrays->end()) return &entry->second;
  }
  return nullptr;
}

void Lane::put(const char* name, std::int64_t place, const void* values, std::size_t bytes) {
  Array* array = input(name);
  if (array == nullptr) return;
  const std::size_t part = array->bytes() / static_cast<std::size_t>(array->shape()[0]);
  if (part != bytes) {
    throw EngineError("the bundle's graphs give " + std::to_string(bytes) + " bytes for " + name,
                      std::to_string(part) + ", as the manifest says", "export the bundle again");
  }
  std::memcpy(array->as<unsigned char>() + static_cast<std::size_t>(place) * part, values, bytes);
  changed_.insert(name);
}

void Lane::fill_zero(const char* name, std::int64_t place) {
  Array* array = input(name);
  if (array == nullptr) return;
  const std::size_t part = array->bytes() / static_cast<std::size_t>(array->shape()[0]);
  std::memset(array->as<unsigned char>() + static_cast<std::size_t>(place) * part, 0, part);
  changed_.insert(name);
}

}  // namespace alterbute
