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

// Up to five numbers with dots between them.
bool is_version(std::string_view text) {
  int numbers = 1;
  for (std::size_t dot = text.find('.'); dot != std::string_view::npos; dot = text.find('.')) {
    if (!is_digits(text.substr(0, dot)) || ++numbers > 5) return false;
    text.remove_prefix(dot + 1);
  }
  return is_digits(text);
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

void check_numbers(const EngineEntry& engine, const std::string& key) {
  if (engine.capabilities.empty()) throw KeyFault{key + ".capabilities", "empty", "at least one, such as 9.0"};
  for (const std::string& capability : engine.capabilities) {
    if (!is_capability(capability))
      throw KeyFault{key + ".capabilities", text::python_repr(capability), "a compute capability such as 9.0"};
  }
  for (const auto& [name, number] :
       {std::pair{".version", engine.version}, std::pair{".cuda", engine.cuda}, std::pair{".driver", engine.driver}}) {
    if (!is_version(number)) throw KeyFault{key + name, text::python_repr(number), "numbers and dots"};
  }
  if (engine.profiles.empty()) throw KeyFault{key + ".profiles", "empty", "at least one bucket"};
  for (std::size_t number = 0; number < engine.profiles.size(); ++number) {
    for (const auto& [name, range] : engine.profiles[number]) {
      bool fits = range.min.size() == range.opt.size() && range.opt.size() == range.max.size();
      for (std::size_t axis = 0; fits && axis < range.min.size(); ++axis)
        fits = 0 <= range.min[axis] && range.min[axis] <= range.opt[axis] && range.opt[axis] <= range.max[axis];
      if (!fits) {
        throw KeyFault{key + ".profiles[" + std::to_string(number) + "]." + name,
                       text::python_repr(range.min) + ", " + text::python_repr(range.opt) + ", " + text::python_repr(range.max),
                       "min <= opt <= max, of one rank"};
      }
    }
  }
}

}  // namespace

bool is_sha256(std::string_view digits) {
  return digits.size() == 64 && digits.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::vector<EngineEntry> read_engines(const Json& value, const std::string& key) {
  return typed::list(value, key, read_engine);
}

void check_engines(const std::vector<EngineEntry>& engines, const Manifest& manifest) {
  std::set<std::pair<std::string, std::string>> taken;
  const auto expect_file = [&](const std::string& key, const std::string& name) {
    if (find(manifest.files, name) == nullptr) throw KeyFault{key, text::python_repr(name), "a name listed in `files`"};
  };
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
    for (const auto& [name, digest] : engine.weights) expect_file(key + ".weights", name);
    if (!taken.insert({engine.recipe, engine.graph}).second)
      throw KeyFault{key, "a second " + engine.graph + " of recipe " + engine.recipe, "one"};
    check_digests(engine, key);
    check_numbers(engine, key);
  }
}

}  // namespace alterbute
