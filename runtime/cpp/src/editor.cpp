// The public classes. Data flows one way: photo -> window -> encodings -> plan -> lane -> decode -> paste.
#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <random>

#include "alterbute/alterbute.hpp"
#include "bundle/bundle.hpp"
#include "encode/encoder.hpp"
#include "backends/engines.hpp"
#include "denoise/detail.hpp"
#include "denoise/lane.hpp"
#include "images/region.hpp"
#include "images/window.hpp"
#include "denoise/plan.hpp"
#include "denoise/solver_table.hpp"
#include "encode/tokenizer.hpp"
#include "paste_window.hpp"

namespace alterbute {
namespace {

void check_positive(const std::string& param, int value, int least) {
  if (value < least)
    throw InputError(param + " is " + std::to_string(value), std::to_string(least) + " or more",
                     "choose another " + param, param, param + "_out_of_range");
}

SolverTable read_table(const Bundle& bundle) {
  if (const std::string& fault = bundle.manifest().scheduler_fault; !fault.empty())
    throw BundleError("the bundle's scheduler cannot be used: " + fault, "a scheduler that diffusers writes", kExportAgain);
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

// The results, when every image was finished. Throws the first fault when none was, as the class that it was thrown as;
// PartialEditError when some were.
std::vector<Result> only_finished(std::vector<Result> results, std::vector<std::optional<EngineError>> faults,
                                  const std::vector<std::exception_ptr>& causes) {
  const auto failed = std::count_if(faults.begin(), faults.end(), [](const auto& fault) { return fault.has_value(); });
  if (failed == 0) return results;
  if (static_cast<std::size_t>(failed) == faults.size()) std::rethrow_exception(causes[0]);
  std::vector<std::optional<Result>> finished(results.size());
  for (std::size_t at = 0; at < results.size(); ++at)
    if (!faults[at]) finished[at] = std::move(results[at]);
  throw PartialEditError(std::move(finished), std::move(faults));
}

// Callbacks for a lane whose jobs are windows: steps are reported as those of all windows of an image.
Callbacks sum_windows(const Callbacks& callbacks, std::size_t images, std::size_t windows) {
  if (!callbacks.progress) return callbacks;
  auto finished = std::make_shared<std::vector<int>>(images);
  Callbacks summed = callbacks;
  summed.progress = [progress = callbacks.progress, finished, windows](const Progress& done) {
    const int step = ++(*finished)[static_cast<std::size_t>(done.image)];
    progress({done.image, static_cast<int>(finished->size()), step, done.steps * static_cast<int>(windows)});
  };
  return summed;
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
  std::vector<CroppedWindow> windows;  // one, or one for each of several distant objects
  std::vector<std::shared_ptr<const Scene>> scenes;
  bool is_aligned = true;  // edits have the object where the photo has it: no box mask, no other reference
  std::vector<std::string> warnings;
  double window_s = 0, encode_s = 0, engine_s = 0;
};

Editor::Editor(const std::string& bundle, const EditorOptions& options) {
  check_positive("slots", options.slots, 1);
  check_positive("threads", options.threads, 0);
  state_ = std::make_shared<const State>(bundle, options);
}

void Editor::load() const {
  state_->encoder.tokenizer();
  state_->engines.wait();
}

void Editor::warm_up() const {
  state_->encoder.tokenizer();
  state_->engines.warm_up(Lane::state_shape(state_->bundle->manifest(), state_->slots));
}

std::string Editor::name() const { return state_->bundle->manifest().name; }

std::vector<std::string> Editor::solvers() const { return state_->table.solvers(); }

Subject Editor::prepare(const ImageView& photo, const ImageView& mask, const std::optional<Reference>& reference,
                        const MaskOptions& options, Color color) const {
  const Encoder& encoder = state_->encoder;
  auto subject = std::make_shared<Subject::State>();
  subject->editor = state_;
  subject->photo = load_photo(photo, color);
  const Region region = load_region(mask, subject->photo, options);
  std::optional<ReferencePicture> given;
  if (reference) given = load_reference(*reference, options.polarity, color);
  const double engine_before = engine_seconds();
  Stopwatch watch;
  subject->windows = encoder.crop_photo(subject->photo, region, given);
  subject->is_aligned = !given && region.kind != MaskKind::box;
  subject->warnings = region.warnings;
  subject->window_s = watch.lap();
  for (const CroppedWindow& window : subject->windows)
    subject->scenes.push_back(std::make_shared<const Scene>(encoder.encode_window(window)));
  subject->encode_s = watch.lap();
  subject->engine_s = engine_seconds() - engine_before;
  return Subject(std::move(subject));
}

Result Editor::edit(const ImageView& photo, const ImageView& mask, const Request& request, const Callbacks& callbacks,
                    const std::optional<Reference>& reference, const MaskOptions& options, Color color) const {
  state_->check(request);
  return prepare(photo, mask, reference, options, color).edit(request, callbacks);
}

Subject::Subject(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Result Subject::edit(const Request& request, const Callbacks& callbacks) const {
  return only_one(edit_many({request}, callbacks));
}

std::vector<Result> Subject::edit_many(const std::vector<Request>& requests, const Callbacks& callbacks) const {
  const Editor::State& editor = *state_->editor;
  const Manifest& manifest = editor.bundle->manifest();
  const std::size_t num_windows = state_->windows.size();
  std::vector<PasteRule> rules;
  for (const Request& request : requests) {
    editor.check(request);
    rules.push_back(choose_paste(request, manifest, state_->is_aligned, state_->photo.bits()));
  }
  const double engine_before = engine_seconds();
  std::deque<Job> jobs;
  std::vector<Result> results;
  for (std::size_t at = 0; at < requests.size(); ++at) {
    const Request& request = requests[at];
    const PasteRule& rule = rules[at];
    Stopwatch watch;
    const auto prompt = std::make_shared<const EncodedPrompt>(editor.encoder.encode_prompt(request.prompt));
    const auto negative = std::make_shared<const EncodedPrompt>(editor.encoder.encode_prompt(request.negative_prompt));
    Result result;
    result.detail = rule.detail;
    result.detail_threshold = rule.threshold;
    result.timings.window = state_->window_s;
    result.timings.encode = state_->encode_s + watch.lap();
    result.seed = static_cast<std::int64_t>(request.seed ? static_cast<std::uint64_t>(*request.seed) : draw_seed());
    result.warnings = state_->warnings;
    if (std::string warning = vocabulary_warning(request.prompt, manifest.attributes); !warning.empty())
      result.warnings.push_back(std::move(warning));
    for (result.index = 0; result.index < request.count; ++result.index) {
      const auto seed = static_cast<std::uint64_t>(result.seed);
      const Plan plan = make_plan(request, manifest, editor.table, seed, static_cast<std::uint32_t>(result.index));
      // Each object gets the noise that it would get alone.
      for (std::size_t window = 0; window < num_windows; ++window)
        jobs.push_back({plan, state_->scenes[window], prompt, negative, static_cast<int>(results.size()),
                        static_cast<int>(window)});
      results.push_back(result);
    }
  }
  if (jobs.empty()) return results;
  std::vector<std::optional<EngineError>> faults(results.size());
  std::vector<std::exception_ptr> causes(results.size());
  const auto fail = [&](std::size_t at, const EngineError& fault) {
    if (faults[at]) return;
    faults[at] = fault;
    causes[at] = std::current_exception();
  };
  std::vector<std::size_t> num_left(results.size(), num_windows);
  Lane lane(editor.engines, manifest, std::min<std::int64_t>(editor.slots, static_cast<std::int64_t>(jobs.size())));
  const auto finish = [&](const JobResult& denoised, Result& result) {
    if (denoised.fault) throw EngineError(*denoised.fault);
    const auto at = static_cast<std::size_t>(denoised.window);
    const CroppedWindow& window = state_->windows[at];
    Stopwatch watch;
    Arrays out = editor.engines.run("decode", {{"latent", denoised.latent.view()}});
    check_finite("decode", "mean", take(out, "decode", "mean"));
    const Array edited = first_of(out, "decode", "image");
    const bool is_guided = result.detail == Detail::photo;
    const Array roundtrip = is_guided ? editor.encoder.decode_roundtrip(*state_->scenes[at]) : Array();
    result.timings.decode += watch.lap();
    const Array pasted = paste_window(editor.engines, window, state_->photo.space.get(), result.detail_threshold,
                                      edited, is_guided ? roundtrip : edited);
    if (result.image.pixels.empty()) start_result(state_->photo, result.image, result.alpha);
    paste_back(window.box, pasted, window.images.alpha, result.image, result.alpha);
    result.timings.paste += watch.lap();
    result.timings.steps = std::max(result.timings.steps, denoised.seconds);
  };
  try {
    lane.run(std::move(jobs), sum_windows(callbacks, results.size(), num_windows), [&](const JobResult& denoised) {
      const auto at = static_cast<std::size_t>(denoised.index);
      --num_left[at];
      try {
        finish(denoised, results[at]);
      } catch (const EngineError& fault) {
        fail(at, fault);
      }
    });
  } catch (const EngineError& fault) {
    // A whole launch failed: that is the fault of every image that had not left the lane.
    for (std::size_t at = 0; at < faults.size(); ++at)
      if (num_left[at] > 0) fail(at, fault);
  }
  const double engine = state_->engine_s + (engine_seconds() - engine_before);
  for (Result& result : results) result.timings.engine = engine;
  return only_finished(std::move(results), std::move(faults), causes);
}

void verify_bundle(const std::string& bundle, const std::vector<std::string>& trust_keys) {
  Bundle::open(bundle, read_trust_keys(trust_keys)).verify();
}

}  // namespace alterbute
