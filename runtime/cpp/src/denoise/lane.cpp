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

Lane::Lane(const Engines& engines, const Manifest& manifest, std::int64_t slots)
    : engines_(engines), manifest_(manifest), capacity_(slots) {
  const std::int64_t side = manifest.latent_side(), places = std::max(slots, kMinSlots),
                     rows = std::max(slots * kMaxRowsPerSlot, kMinRows);
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
  // Two in turn: what a launch writes is what the next one reads, and nothing is copied.
  state_ = floats({places, kRows, latent[0], side, side});
  next_state_ = state_;
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
    for (const auto& [index, slot] : slots_) load(slot);
    pack();
    launch();
    for (auto& [index, slot] : slots_) {
      ++slot.step;
      check_finite(slot);
      if (callbacks.progress)
        callbacks.progress(
            {slot.job.index, images, static_cast<int>(slot.step), static_cast<int>(slot.job.plan.steps())});
    }
    for (auto entry = slots_.begin(); entry != slots_.end();) {
      const Slot& slot = entry->second;
      if (slot.step < slot.job.plan.steps()) {
        ++entry;
        continue;
      }
      on_finished({slot.job.index, take_latent(slot), now() - slot.admitted});
      clear(slot.index);
      entry = slots_.erase(entry);
    }
  }
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
  float* state = state_.as<float>() + static_cast<std::size_t>(index) * kStateRows * latent_count_;
  std::fill(state, state + kStateRows * latent_count_, 0.0F);
  const float* background = seen.background.as<float>();
  for (std::size_t k = 0; k < latent_count_; ++k)
    state[k] = plan.solver.start[0] * background[k] + plan.solver.start[1] * noise[k];
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

// This step's numbers of one slot.
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
  }
}

// Lays out this launch's rows, unless they are those of the last one: most steps change none.
void Lane::pack() {
  std::vector<std::pair<std::int64_t, Rows>> layout;
  std::vector<PlacedRow> placed;
  for (const auto& [index, slot] : slots_) {
    const Rows& rows = slot.job.plan.rows[slot.step];
    layout.emplace_back(index, rows);
    for (const Row& row : rows) placed.push_back({index, &row, &slot.job});
  }
  if (layout == layout_) return;
  layout_ = std::move(layout);
  const std::int64_t places = std::max(placed.back().slot + 1, kMinSlots),
                     rows = std::max(static_cast<std::int64_t>(placed.size()), kMinRows);
  guidance_ = make_array<float>({places, rows});
  for (std::size_t n = 0; n < placed.size(); ++n) {
    place_row(n, placed[n]);
    guidance_.as<float>()[placed[n].slot * rows + static_cast<std::int64_t>(n)] =
        static_cast<float>(placed[n].row->weight);
    if (!placed[n].row->is_negative) put_number("rescale_row", placed[n].slot, static_cast<std::int64_t>(n));
  }
  // Places to spare repeat the first row at weight 0.
  for (std::size_t n = placed.size(); static_cast<std::int64_t>(n) < rows; ++n) place_row(n, placed[0]);
}

void Lane::place_row(std::size_t n, const PlacedRow& placed) {
  const auto place = static_cast<std::int64_t>(n);
  const EncodedPrompt& prompt = placed.row->is_negative ? *placed.job->negative : *placed.job->prompt;
  const auto& identity = placed.row->is_null ? placed.job->scene->null_identity : placed.job->scene->identity;
  put_number("owner", place, placed.slot);
  put_number("source_on", place, placed.row->source_on);
  put("text", place, prompt.text);
  if (prompt.pooled) put("pooled", place, *prompt.pooled);
  if (identity) put("identity", place, *identity);
  put_number("identity_scale", place, static_cast<float>(placed.job->plan.identity_scale));
}

void Lane::launch() {
  const std::int64_t places = guidance_.shape()[0], rows = guidance_.shape()[1];
  ArrayViews inputs = {{"state", state_.head(places)}, {"guidance", guidance_.view()}};
  for (const auto& [name, array] : per_slot_) inputs[name] = array.head(places);
  for (const auto& [name, array] : per_row_) inputs[name] = array.head(rows);
  engines_.run("step", inputs, {{"next_state", next_state_.head(places)}});
  std::swap(state_, next_state_);
}

void Lane::check_finite(const Slot& slot) const {
  const float* state = state_.as<float>() + static_cast<std::size_t>(slot.index) * kStateRows * latent_count_;
  if (std::all_of(state, state + kStateRows * latent_count_, [](float value) { return std::isfinite(value); })) return;
  throw EngineError("the step graph gave numbers that are not finite by step " + std::to_string(slot.step) + " of " +
                        std::to_string(slot.job.plan.steps()),
                    "finite latents", "try other guidance or another seed; if it stays, export the bundle again");
}

Array Lane::take_latent(const Slot& slot) const {
  Array latent = make_array<float>({1, manifest_.latent_channels, manifest_.latent_side(), manifest_.latent_side()});
  std::memcpy(latent.as<float>(),
              state_.as<float>() + static_cast<std::size_t>(slot.index) * kStateRows * latent_count_, latent.bytes());
  return latent;
}

// Makes a slot idle: it owns no row and its solver is 0, so what is left in it stays finite and unseen.
void Lane::clear(std::int64_t slot) {
  for (const char* name : {"noise", "solver", "reinject", "keep", "guidance_rescale", "rescale_row"})
    fill_zero(name, slot);
  // The next image in this slot may have rows that look the same and see something else.
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
}

void Lane::fill_zero(const char* name, std::int64_t place) {
  Array* array = input(name);
  if (array == nullptr) return;
  const std::size_t part = array->bytes() / static_cast<std::size_t>(array->shape()[0]);
  std::memset(array->as<unsigned char>() + static_cast<std::size_t>(place) * part, 0, part);
}

}  // namespace alterbute
