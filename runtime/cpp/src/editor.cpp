// The public classes. Data flows one way: photo -> window -> encodings -> plan -> lane -> decode -> paste.
#include <algorithm>
#include <array>
#include <chrono>
#include <random>

#include "alterbute/alterbute.hpp"
#include "bundle/bundle.hpp"
#include "encode/encoder.hpp"
#include "backends/engines.hpp"
#include "denoise/lane.hpp"
#include "images/picture.hpp"
#include "denoise/plan.hpp"
#include "denoise/solver_table.hpp"
#include "encode/tokenizer.hpp"

namespace alterbute {
namespace {

void check_positive(const std::string& param, int value, int least) {
  if (value < least)
    throw InputError(param + " is " + std::to_string(value), std::to_string(least) + " or more",
                     "choose another " + param, param, param + "_out_of_range");
}

SolverTable read_table(const Bundle& bundle) {
  const auto& entry = bundle.manifest().solver_table;
  if (!entry)
    throw BundleError("the bundle has no solver table", "`solver_table` in its manifest: there is no solver code here",
                      kExportAgain);
  const Bytes data = bundle.read(entry->file);
  return SolverTable(std::string_view(data.data(), data.size()));
}

// A seed of the system's choice, 0..2^63-1.
std::uint64_t draw_seed() {
  std::random_device source;
  return (std::uint64_t{source()} << 32U | source()) & 0x7FFFFFFFFFFFFFFFU;
}

// Seconds since the last call.
class Stopwatch {
 public:
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

Result only_one(std::vector<Result> results) {
  if (results.size() != 1) {
    throw InputError("count is " + std::to_string(results.size()), "1 for `edit`",
                     "use `edit_many`, which returns a list", "count", "count_needs_edit_many");
  }
  return std::move(results[0]);
}

// The results, when every image was finished. Throws the first fault when none was, PartialEditError when some were.
std::vector<Result> only_finished(std::vector<Result> results, std::vector<std::optional<EngineError>> faults) {
  const auto failed = std::count_if(faults.begin(), faults.end(), [](const auto& fault) { return fault.has_value(); });
  if (failed == 0) return results;
  if (static_cast<std::size_t>(failed) == faults.size()) throw EngineError(*faults[0]);
  std::vector<std::optional<Result>> finished(results.size());
  for (std::size_t at = 0; at < results.size(); ++at)
    if (!faults[at]) finished[at] = std::move(results[at]);
  throw PartialEditError(std::move(finished), std::move(faults));
}

// "2 of 5 images failed, the first one because ..."
EngineError summarize(const std::vector<std::optional<EngineError>>& faults) {
  const auto is_set = [](const auto& fault) { return fault.has_value(); };
  const EngineError& first = **std::find_if(faults.begin(), faults.end(), is_set);
  const auto failed = std::count_if(faults.begin(), faults.end(), is_set);
  return {std::to_string(failed) + " of " + std::to_string(faults.size()) + " images failed, the first one because " +
              first.seen(),
          first.expected(), "keep the finished images; for the others, " + first.fix()};
}

}  // namespace

PartialEditError::PartialEditError(std::vector<std::optional<Result>> results,
                                   std::vector<std::optional<EngineError>> faults)
    : EngineError(summarize(faults)),
      results_(std::make_shared<const std::vector<std::optional<Result>>>(std::move(results))),
      faults_(std::make_shared<const std::vector<std::optional<EngineError>>>(std::move(faults))) {}
PartialEditError::~PartialEditError() = default;

struct Editor::State {
  State(const std::string& path, const EditorOptions& options)
      : bundle(std::make_shared<const Bundle>(Bundle::open(path, read_trust_keys(options.trust_keys)))),
        table(read_table(*bundle)),
        slots(options.slots),
        engines(bundle, options),
        encoder(bundle, engines) {}

  // Refuses what this bundle cannot do, before anything is encoded for it.
  void check(const Request& request) const {
    check_request(request);
    for (const std::string& prompt : {request.prompt, request.negative_prompt}) encoder.tokenize(prompt);
    check_attributes(request.prompt, bundle->manifest().attributes);
    make_plan(request, bundle->manifest(), table, 0, 0);
  }

  std::shared_ptr<const Bundle> bundle;
  SolverTable table;
  int slots;
  Engines engines;
  Encoder encoder;
};

struct Subject::State {
  std::shared_ptr<const Editor::State> editor;
  Picture photo;
  Box box;
  Array pixels;  // the photo's own pixels in the box
  WindowImages window;
  std::shared_ptr<const Scene> scene;
  double window_s = 0, encode_s = 0, engine_s = 0;
};

Editor::Editor(const std::string& bundle, const EditorOptions& options) {
  check_positive("slots", options.slots, 1);
  check_positive("threads", options.threads, 0);
  state_ = std::make_shared<const State>(bundle, options);
}

void Editor::load() const { state_->engines.wait(); }

std::string Editor::name() const { return state_->bundle->manifest().name; }

std::vector<std::string> Editor::solvers() const { return state_->table.solvers(); }

Subject Editor::prepare(const ImageView& photo, const ImageView& mask, const std::optional<Reference>& reference,
                        const MaskOptions& options) const {
  const Encoder& encoder = state_->encoder;
  const Manifest& manifest = state_->bundle->manifest();
  auto subject = std::make_shared<Subject::State>();
  subject->editor = state_;
  subject->photo = load_picture(photo, "photo");
  const Region region = load_region(mask, subject->photo, options);
  std::optional<ReferencePicture> given;
  if (reference) given = load_reference(*reference, options.polarity);
  const double engine_before = engine_seconds();
  Stopwatch watch;
  subject->box = photo_box(region.edit, manifest.mask.margin);
  subject->window = encoder.view(subject->photo.pixels, region, subject->box, manifest.resolution);
  subject->pixels = cut(subject->photo.pixels, subject->box);
  subject->window_s = watch.lap();
  subject->scene = std::make_shared<const Scene>(
      encoder.encode_subject(subject->photo, region, subject->box, subject->window, given));
  subject->encode_s = watch.lap();
  subject->engine_s = engine_seconds() - engine_before;
  return Subject(std::move(subject));
}

Result Editor::edit(const ImageView& photo, const ImageView& mask, const Request& request, const Callbacks& callbacks,
                    const std::optional<Reference>& reference, const MaskOptions& options) const {
  state_->check(request);
  return prepare(photo, mask, reference, options).edit(request, callbacks);
}

Subject::Subject(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Result Subject::edit(const Request& request, const Callbacks& callbacks) const {
  return only_one(edit_many({request}, callbacks));
}

std::vector<Result> Subject::edit_many(const std::vector<Request>& requests, const Callbacks& callbacks) const {
  const Editor::State& editor = *state_->editor;
  const Manifest& manifest = editor.bundle->manifest();
  for (const Request& request : requests) editor.check(request);
  const double engine_before = engine_seconds();
  std::deque<Job> jobs;
  std::vector<Result> results;
  for (const Request& request : requests) {
    Stopwatch watch;
    const auto prompt = std::make_shared<const EncodedPrompt>(editor.encoder.encode_prompt(request.prompt));
    const auto negative = std::make_shared<const EncodedPrompt>(editor.encoder.encode_prompt(request.negative_prompt));
    Result result;
    result.timings.window = state_->window_s;
    result.timings.encode = state_->encode_s + watch.lap();
    result.seed = static_cast<std::int64_t>(request.seed ? static_cast<std::uint64_t>(*request.seed) : draw_seed());
    if (std::string warning = vocabulary_warning(request.prompt, manifest.attributes); !warning.empty())
      result.warnings.push_back(std::move(warning));
    for (result.index = 0; result.index < request.count; ++result.index) {
      const auto seed = static_cast<std::uint64_t>(result.seed);
      jobs.push_back({make_plan(request, manifest, editor.table, seed, static_cast<std::uint32_t>(result.index)),
                      state_->scene, prompt, negative, static_cast<int>(results.size())});
      results.push_back(result);
    }
  }
  if (jobs.empty()) return results;
  std::vector<std::optional<EngineError>> faults(results.size());
  std::vector<bool> has_left(results.size());
  Lane lane(editor.engines, manifest, std::min<std::int64_t>(editor.slots, static_cast<std::int64_t>(jobs.size())));
  const auto finish = [&](const JobResult& denoised, Result& result) {
    if (denoised.fault) throw EngineError(*denoised.fault);
    Stopwatch watch;
    Arrays out = editor.engines.run("decode", {{"latent", denoised.latent.view()}});
    check_finite("decode", "mean", take(out, "decode", "mean"));
    const Array edited = first_of(out, "decode", "image");
    result.timings.decode = watch.lap();
    const Array& alpha = state_->window.alpha;
    Arrays pasted = editor.engines.run(
        "paste", {{"edited", edited.view()}, {"photo", state_->pixels.view()}, {"alpha", alpha.view()}});
    result.image = paste_back(state_->photo, state_->box, take(pasted, "paste", "image"), alpha, result.alpha);
    result.timings.paste = watch.lap();
    result.timings.steps = denoised.seconds;
  };
  try {
    lane.run(std::move(jobs), callbacks, [&](const JobResult& denoised) {
      const auto at = static_cast<std::size_t>(denoised.index);
      has_left[at] = true;
      try {
        finish(denoised, results[at]);
      } catch (const EngineError& fault) {
        faults[at] = fault;
      }
    });
  } catch (const EngineError& fault) {
    // A whole launch failed: that is the fault of every image that had not left the lane.
    for (std::size_t at = 0; at < faults.size(); ++at)
      if (!has_left[at]) faults[at] = fault;
  }
  const double engine = state_->engine_s + (engine_seconds() - engine_before);
  for (Result& result : results) result.timings.engine = engine;
  return only_finished(std::move(results), std::move(faults));
}

void verify_bundle(const std::string& bundle, const std::vector<std::string>& trust_keys) {
  Bundle::open(bundle, read_trust_keys(trust_keys)).verify();
}

}  // namespace alterbute
