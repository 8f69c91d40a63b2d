#include "bundle/engine_entries.hpp"

#include <algorithm>
#include <set>

#include "base/text.hpp"
#include "bundle/typed_json.hpp"

namespace alterbute {
namespace {

using typed::KeyFault;
using typed::Record;

ShapeRange read_range(const Json& value, const std::string& key) {
  const Record record(value, key, {"min", "opt", "max"});
  const auto sizes = [&](const char* name) { return typed::list(record.at(name), record.path(name), typed::integer); };
  return {sizes("min"), sizes("opt"), sizes("max")};
}

EngineEntry read_engine(const Json& value, const std::string& key) {
  const Record record(
      value, key,
      {"graph", "file", "recipe", "product", "version", "platform", "fit", "capabilities", "gpu", "cuda", "driver",
       "precision", "profiles", "builder", "source", "onnx", "weights", "timing_cache", "refit"});
  const auto text = [&](const char* name) { return typed::string(record.at(name), record.path(name)); };
  EngineEntry engine;
  engine.graph = text("graph");
  engine.file = text("file");
  engine.recipe = text("recipe");
  typed::choice(record.at("product"), record.path("product"), {"tensorrt", "tensorrt_rtx"});
  engine.version = text("version");
  text("platform");
  typed::choice(record.at("fit"), record.path("fit"),
                {"same_gpu", "same_compute_capability", "ampere_plus", "portable"});
  engine.capabilities = typed::list(record.at("capabilities"), record.path("capabilities"), typed::string);
  text("gpu");
  engine.cuda = text("cuda");
  engine.driver = text("driver");
  typed::choice(record.at("precision"), record.path("precision"), {"fp32", "fp16", "bf16"});
  engine.profiles =
      typed::list(record.at("profiles"), record.path("profiles"),
                  [](const Json& profile, const std::string& place) { return typed::map(profile, place, read_range); });
  typed::expect_object(record.at("builder"), record.path("builder"));
  engine.source = text("source");
  engine.onnx = text("onnx");
  engine.weights = typed::map(record.at("weights"), record.path("weights"), typed::string);
  if (record.at("timing_cache").kind != Json::Kind::null) engine.timing_cache = {text("timing_cache")};
  typed::choice(record.at("refit"), record.path("refit"), {"none", "identical"});
  return engine;
}

bool is_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// Up to five numbers of up to nine digits with dots between them.
bool is_version(std::string_view text) {
  constexpr std::size_t kMaxDigits = 9;
  int numbers = 1;
  for (std::size_t dot = text.find('.'); dot != std::string_view::npos; dot = text.find('.')) {
    if (dot > kMaxDigits || !is_digits(text.substr(0, dot)) || ++numbers > 5) return false;
    text.remove_prefix(dot + 1);
  }
  return text.size() <= kMaxDigits && is_digits(text);
}

// A compute capability such as 9.0.
bool is_capability(std::string_view text) {
  const std::size_t dot = text.find('.');
  return (dot == 1 || dot == 2) && text.size() == dot + 2 && is_digits(text.substr(0, dot)) &&
         is_digits(text.substr(dot + 1));
}

void check_digest(const std::string& key, const std::string& digest) {
  if (!is_sha256(digest)) throw KeyFault{key, text::python_repr(digest), "64 hexadecimal digits"};
}

void check_digests(const EngineEntry& engine, const std::string& key) {
  check_digest(key + ".onnx", engine.onnx);
  for (const auto& [name, digest] : engine.weights) check_digest(key + ".weights." + name, digest);
  for (const std::string& digest : engine.timing_cache) check_digest(key + ".timing_cache", digest);
}

std::string count_of_list(std::size_t count) { return count == 0 ? "empty" : "a list of " + std::to_string(count); }

void check_profile(const std::string& key, const Named<ShapeRange>& profile) {
  constexpr std::size_t kMaxAxes = 16;
  constexpr std::int64_t kMaxSize = 2'147'483'647;
  for (const auto& [name, range] : profile) {
    bool fits = range.min.size() == range.opt.size() && range.opt.size() == range.max.size() && range.min.size() <= kMaxAxes;
    for (std::size_t axis = 0; fits && axis < range.min.size(); ++axis) {
      fits = 0 <= range.min[axis] && range.min[axis] <= range.opt[axis] && range.opt[axis] <= range.max[axis] &&
             range.max[axis] <= kMaxSize;
    }
    if (!fits) {
      throw KeyFault{key + "." + name,
                     text::python_repr(range.min) + ", " + text::python_repr(range.opt) + ", " + text::python_repr(range.max),
                     "min <= opt <= max, of one rank"};
    }
  }
}

// Every profile has the shapes of its graph's inputs.
void check_inputs(const std::string& key, const Named<ShapeRange>& profile, const Graph& graph) {
  std::vector<std::string> names;
  bool is_whole = profile.size() == graph.inputs.size();
  for (const TensorSpec& input : graph.inputs) {
    names.push_back(input.name);
    const ShapeRange* range = find(profile, input.name);
    is_whole = is_whole && range != nullptr && range->max.size() == input.shape.size();
  }
  if (!is_whole) throw KeyFault{key, "of other inputs", "one shape for each of " + text::join(names, ", ")};
}

void check_numbers(const EngineEntry& engine, const std::string& key) {
  constexpr std::size_t kMaxCapabilities = 32, kMaxProfiles = 256;
  const std::size_t capabilities = engine.capabilities.size(), profiles = engine.profiles.size();
  if (capabilities < 1 || capabilities > kMaxCapabilities)
    throw KeyFault{key + ".capabilities", count_of_list(capabilities), "at least one, such as 9.0, at most 32"};
  for (const std::string& capability : engine.capabilities) {
    if (!is_capability(capability))
      throw KeyFault{key + ".capabilities", text::python_repr(capability), "a compute capability such as 9.0"};
  }
  for (const auto& [name, number] :
       {std::pair{".version", engine.version}, std::pair{".cuda", engine.cuda}, std::pair{".driver", engine.driver}}) {
    if (!is_version(number)) throw KeyFault{key + name, text::python_repr(number), "numbers and dots"};
  }
  if (profiles < 1 || profiles > kMaxProfiles) {
    throw KeyFault{key + ".profiles", count_of_list(profiles),
                   "at least one bucket, at most " + std::to_string(kMaxProfiles)};
  }
  for (std::size_t number = 0; number < profiles; ++number)
    check_profile(key + ".profiles[" + std::to_string(number) + "]", engine.profiles[number]);
}

}  // namespace

bool is_sha256(std::string_view digits) {
  return digits.size() == 64 && digits.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::vector<EngineEntry> read_engines(const Json& value, const std::string& key) {
  return typed::list(value, key, read_engine);
}

void check_engines(const std::vector<EngineEntry>& engines, const Manifest& manifest) {
  constexpr std::size_t kMaxEngines = 256;
  std::set<std::pair<std::string, std::string>> taken;
  const auto expect_file = [&](const std::string& key, const std::string& name) {
    if (find(manifest.files, name) == nullptr) throw KeyFault{key, text::python_repr(name), "a name listed in `files`"};
  };
  if (engines.size() > kMaxEngines) {
    throw KeyFault{"engines", "a list of " + std::to_string(engines.size()), "at most " + std::to_string(kMaxEngines)};
  }
  for (std::size_t index = 0; index < engines.size(); ++index) {
    const EngineEntry& engine = engines[index];
    const std::string key = "engines[" + std::to_string(index) + "]";
    if (find(manifest.graphs, engine.graph) == nullptr) {
      std::vector<std::string> graphs;
      for (const auto& [name, graph] : manifest.graphs) graphs.push_back(name);
      std::sort(graphs.begin(), graphs.end());
      throw KeyFault{key + ".graph", text::python_repr(engine.graph), "one of " + text::join(graphs, ", ")};
    }
    expect_file(key + ".file", engine.file);
    expect_file(key + ".source", engine.source);
    if (engine.source.find('/') != std::string::npos)
      throw KeyFault{key + ".source", text::python_repr(engine.source), "a file that is in no folder"};
    for (const auto& [name, digest] : engine.weights) {
      if (find(manifest.files, name) == nullptr || !is_weights_name(name))
        throw KeyFault{key + ".weights", text::python_repr(name), "names of weights listed in `files`"};
    }
    if (!taken.insert({engine.recipe, engine.graph}).second)
      throw KeyFault{key, "a second " + engine.graph + " of recipe " + engine.recipe, "one"};
    check_digests(engine, key);
    check_numbers(engine, key);
  }
  for (std::size_t index = 0; index < engines.size(); ++index) {
    const EngineEntry& engine = engines[index];
    for (std::size_t number = 0; number < engine.profiles.size(); ++number) {
      check_inputs("engines[" + std::to_string(index) + "].profiles[" + std::to_string(number) + "]",
                   engine.profiles[number], manifest.graph(engine.graph));
    }
  }
}

}  // namespace alterbute
