#include "bundle/limits.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "base/text.hpp"
#include "bundle/engine_entries.hpp"
#include "bundle/typed_json.hpp"

namespace alterbute {
namespace {

using typed::join;
using typed::KeyFault;

constexpr std::size_t kMaxText = 1024, kMaxItems = 65'536, kMaxTrainedBetas = 100'000, kMaxDepth = 64;
constexpr double kMaxSide = 8192, kMaxChannels = 512, kMaxWidth = 65'536, kMaxTokens = 4096;
constexpr double kMaxInteger = 9'007'199'254'740'991.0, kMaxCount = 2'147'483'647.0;
constexpr double kMaxError = 1e9;
// Numbers of a slot's latent, of its scene, and of one row's text or identity: with fp32 and two slots under 0.5 GB in
// all.
constexpr double kMaxLatent = 1 << 22, kMaxScene = 1 << 23, kMaxCondition = 1 << 22;
constexpr std::array<const char*, 10> kSolverNames = {"ddim",     "euler",        "euler_a",   "heun",  "dpmpp_2m",
                                                      "dpmpp_2m_sde", "dpmpp_3m", "unipc", "lcm",   "plms"};
constexpr std::array<const char*, 3> kSpacings = {"leading", "linspace", "trailing"};

bool is_one_of(std::string_view text, std::string_view others) {
  return std::all_of(text.begin(), text.end(), [&](char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= '0' && letter <= '9') ||
           others.find(letter) != std::string_view::npos;
  });
}

template <std::size_t count>
void check_name(const std::string& key, const std::string& name, const std::array<const char*, count>& names) {
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    throw KeyFault{key, text::python_repr(text::first_points(name, 80)),
                   "one of " + text::join({names.begin(), names.end()}, ", ")};
  }
}

// A name of letters, digits, dots, dashes and underscores, with no dot or dash first.
bool is_plain_part(std::string_view name) {
  const auto is_word = [](char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9') ||
           letter == '_';
  };
  return !name.empty() && is_word(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return is_word(c) || c == '.' || c == '-'; });
}

// A file name, at most one folder deep.
bool is_plain_name(std::string_view name) {
  const std::size_t slash = name.find('/');
  return slash == std::string_view::npos
             ? is_plain_part(name)
             : is_plain_part(name.substr(0, slash)) && is_plain_part(name.substr(slash + 1));
}

void check_files(const Named<FileEntry>& files) {
  constexpr std::size_t kMaxFiles = 4096, kMaxName = 200;
  check_count("files", files.size(), kMaxFiles, 1);
  for (const auto& [name, entry] : files) {
    if (name.size() > kMaxName || !is_plain_name(name)) {
      throw KeyFault{"files", "the name " + text::python_repr(text::first_points(name, 80)),
                     "plain names, at most one folder deep"};
    }
    check_digest("files." + name + ".sha256", entry.sha256);
    check_number("files." + name + ".size", entry.size, 0, kMaxInteger);
  }
}

void check_numbers(const Manifest& manifest) {
  check_number("resolution", manifest.resolution, 1, kMaxSide);
  for (const std::int64_t side : manifest.resolutions) check_number("resolutions", side, 1, kMaxSide);
  check_number("latent_factor", manifest.latent_factor, 1, 64);
  check_number("latent_channels", manifest.latent_channels, 1, kMaxChannels);
  check_number("scene_channels", manifest.scene_channels, 0, kMaxChannels);
  check_number("state_rows", manifest.state_rows, kManifestStateRows, kManifestStateRows);
  check_number("mask.dilate", manifest.mask.dilate, 1, 1023);
  check_number("mask.margin", manifest.mask.margin, 1, 100);
  check_number("detail.radius", manifest.detail.radius, 1, 1024);
  check_number("detail.ridge", manifest.detail.ridge, 1e-30, 1);
  check_number("detail.threshold", manifest.detail.threshold, 0, 1);
  check_number("guidance.scale", manifest.guidance.scale, 0, 100);
  check_number("guidance.identity", manifest.guidance.identity, 0, 100);
  check_number("guidance.rescale", manifest.guidance.rescale, 0, 1);
  check_number("defaults.steps", manifest.defaults.steps, 1, 1000);
  check_number("defaults.strength", manifest.defaults.strength, 1e-9, 1);
  check_number("text.tokens", manifest.text.tokens, 3, kMaxTokens);
  check_number("text.dim", manifest.text.dim, 1, kMaxWidth);
  check_number("text.pooled", manifest.text.pooled, 0, kMaxWidth);
  const auto most_id = static_cast<double>(kMaxTokenId);
  check_number("text.start_id", manifest.text.start_id, 0, most_id);
  check_number("text.end_id", manifest.text.end_id, 0, most_id);
  check_number("text.pad_id", manifest.text.pad_id, 0, most_id);
  if (manifest.time_ids)
    for (const double number : *manifest.time_ids) check_number("time_ids", number, -1e6, 1e6);
  if (!manifest.identity) return;
  check_number("identity.size", manifest.identity->size, 1, kMaxSide);
  for (std::size_t axis = 0; axis < manifest.identity->shape.size(); ++axis)
    check_number("identity.shape[" + std::to_string(axis) + "]", manifest.identity->shape[axis], 1, kMaxWidth);
}

void check_memory(const Manifest& manifest) {
  std::int64_t side = manifest.resolution;
  for (const std::int64_t other : manifest.resolutions) side = std::max(side, other);
  const auto cells = static_cast<double>(side / manifest.latent_factor);
  double identity = manifest.identity ? 1 : 0;
  if (manifest.identity)
    for (const std::int64_t size : manifest.identity->shape) identity *= static_cast<double>(size);
  const auto check = [](const char* key, double count, double most) {
    std::array<char, 400> shown{};
    std::snprintf(shown.data(), shown.size(), "%.0f", count);
    if (count > most)
      throw KeyFault{key, "of " + std::string(shown.data()) + " numbers an image",
                     "at most " + std::to_string(static_cast<std::int64_t>(most))};
  };
  check("latent_channels", static_cast<double>(manifest.latent_channels) * cells * cells, kMaxLatent);
  check("scene_channels", static_cast<double>(manifest.scene_channels) * cells * cells, kMaxScene);
  check("text.dim", static_cast<double>(manifest.text.tokens) * static_cast<double>(manifest.text.dim), kMaxCondition);
  check("identity.shape", identity, kMaxCondition);
}

void check_vocabulary(const Manifest& manifest) {
  if (!manifest.attributes) return;
  std::size_t count = 0;
  for (const auto& [name, values] : *manifest.attributes) count += values.size();
  check_count("attributes", manifest.attributes->size(), 64);
  check_count("attributes", count, 4096);
  for (const auto& [name, values] : *manifest.attributes) {
    const std::string key = "attributes." + text::first_points(name, 64);
    check_text(key, name, 64, 1);
    for (const std::string& value : values) check_text(key, value, 64, 1);
  }
}

void check_scheduler(const Json& config) {
  check_count("scheduler", config.fields.size(), 128);
  for (const auto& [name, value] : config.fields) {
    const std::string key = "scheduler." + name;
    const auto check = [&](const Json& item) {
      if (item.kind == Json::Kind::array || item.kind == Json::Kind::object)
        throw KeyFault{key, "nested", "a value, or a list of values"};
      if (item.kind == Json::Kind::string) check_text(key, item.text, 128);
      if (item.kind == Json::Kind::integer || item.kind == Json::Kind::real) check_number(key, item.number, -1e9, 1e9);
    };
    if (value.kind != Json::Kind::array) check(value);
    for (const Json& item : value.items) check(item);
  }
}

void check_merged(const Json& merged) {
  check_count("merged", merged.items.size(), 256);
  for (std::size_t index = 0; index < merged.items.size(); ++index) {
    const Json& entry = merged.items[index];
    const std::string key = "merged[" + std::to_string(index) + "]";
    check_number(key + ".weight", entry.find("weight")->number, -1000, 1000);
    check_digest(key + ".sha256", entry.find("sha256")->text);
    check_text(key + ".file", entry.find("file")->text, 255, 1);
    check_text(key + ".token", entry.find("token")->text, 64);
  }
}

void check_counts(const std::string& key, const Json* counts) {
  if (counts == nullptr) return;
  for (const auto& [name, count] : counts->fields) check_number(key, count.number, 0, kMaxCount);
}

void check_variant_limits(const std::string& key, const Json& variant) {
  const std::string backend = variant.find("backend")->text;
  if (backend.empty() || backend.size() > 32 || !is_one_of(backend, "_-"))
    throw KeyFault{key + ".variants", text::python_repr(backend), "a backend such as onnxruntime"};
  if (const Json* buckets = variant.find("buckets")) check_count(key + ".buckets", buckets->items.size(), 64);
  if (const Json* error = variant.find("relative_error"))
    check_number(key + ".variants.relative_error", error->number, 0, kMaxError);
  check_counts(key + ".variants", variant.find("unfused"));
  const Json* audit = variant.find("audit");
  if (audit == nullptr || audit->kind != Json::Kind::object) return;
  check_counts(key + ".variants", audit->find("islands"));
  check_number(key + ".variants.audit.multiply_adds", audit->find("multiply_adds")->number, 0, kMaxInteger);
  for (const auto& [name, share] : audit->find("shares")->fields)
    check_number(key + ".variants.audit.shares", share.number, 0, 1.000001);
}

void check_graph(const std::string& key, const Json& graph) {
  const Json& variants = *graph.find("variants");
  check_count(key + ".variants", variants.items.size(), 32, 1);
  if (const Json& parity = *graph.find("parity"); parity.kind == Json::Kind::object)
    check_number(key + ".parity.relative_error", parity.find("relative_error")->number, 0, kMaxError);
  for (const Json& variant : variants.items) check_variant_limits(key, variant);
}

void check_solver_table(const Json& table) {
  check_number("solver_table.max_steps", table.find("max_steps")->number, 1, 1000);
  check_count("solver_table.solvers", table.find("solvers")->items.size(), 32);
  for (const Json& solver : table.find("solvers")->items) check_name("solver_table.solvers", solver.text, kSolverNames);
  check_name("solver_table.spacing", table.find("spacing")->text, kSpacings);
}

void check_part(const Json& value, const std::string& key, std::size_t depth) {
  if (depth > kMaxDepth) return;  // no parser lets it come here
  if (value.kind == Json::Kind::string) check_text(key, value.text, kMaxText);
  if (value.kind == Json::Kind::array) {
    check_count(key, value.items.size(), key == "scheduler.trained_betas" ? kMaxTrainedBetas : kMaxItems);
    for (const Json& item : value.items) check_part(item, key, depth + 1);
  }
  if (value.kind != Json::Kind::object) return;
  check_count(key, value.fields.size(), kMaxItems);
  for (const auto& [name, item] : value.fields) check_text(key, name, kMaxText);
  for (const auto& [name, item] : value.fields) check_part(item, join(key, name), depth + 1);
}

template <typename Number>
void check_range(const std::string& key, Number value, const std::string& shown, double least, double most) {
  if (!(least <= static_cast<double>(value) && static_cast<double>(value) <= most))
    throw KeyFault{key, shown, "a number from " + text::general(least) + " to " + text::general(most)};
}

}  // namespace

void check_document(const Json& document) { check_part(document, "", 0); }

void check_count(const std::string& key, std::size_t count, std::size_t most, std::size_t least) {
  if (count < least || count > most) {
    throw KeyFault{key, count == 0 ? "empty" : "a list of " + std::to_string(count),
                   std::to_string(least) + " to " + std::to_string(most) + " items"};
  }
}

void check_text(const std::string& key, std::string_view bytes, std::size_t most, std::size_t least) {
  const auto points = text::decode(bytes);
  if (!points || points->size() < least || points->size() > most) {
    throw KeyFault{key, "a text of " + std::to_string(points ? points->size() : 0) + " characters",
                   std::to_string(least) + " to " + std::to_string(most) + " characters"};
  }
  if (!text::is_printable(*points))
    throw KeyFault{key, text::python_ascii(text::first_points(bytes, 40)), "text without control characters"};
}

void check_digest(const std::string& key, const std::string& digest) {
  if (!is_sha256(digest))
    throw KeyFault{key, text::python_repr(text::first_points(digest, 80)), "64 hexadecimal digits"};
}

void check_number(const std::string& key, std::int64_t value, double least, double most) {
  check_range(key, value, std::to_string(value), least, most);
}
void check_number(const std::string& key, double value, double least, double most) {
  std::array<char, 40> shown{};
  std::snprintf(shown.data(), shown.size(), "%.10g", value);
  check_range(key, value, shown.data(), least, most);
}

void check_training(const Json& config) {
  constexpr double kMaxTrainSteps = 100'000;
  for (const char* name : {"beta_start", "beta_end"}) {
    const Json* beta = config.find(name);
    if (beta == nullptr) continue;
    const std::string key = join("scheduler", name);
    check_number(key, typed::number(*beta, key), 0, 1);
  }
  if (const Json* steps = config.find("num_train_timesteps"))
    check_number("scheduler.num_train_timesteps", typed::integer(*steps, "scheduler.num_train_timesteps"), 1,
                 kMaxTrainSteps);
  if (const Json* kind = config.find("beta_schedule"))
    typed::choice(*kind, "scheduler.beta_schedule", {"linear", "scaled_linear", "squaredcos_cap_v2"});
}

void check_limits(const Manifest& manifest, const Json& document) {
  check_numbers(manifest);
  check_text("name", manifest.name, 128, 1);
  check_count("resolutions", manifest.resolutions.size(), 64);
  check_count("detail.attributes", manifest.detail.attributes.size(), 64);
  check_name("defaults.solver", manifest.defaults.solver, kSolverNames);
  check_name("defaults.spacing", manifest.defaults.spacing, kSpacings);
  check_memory(manifest);
  check_vocabulary(manifest);
  check_scheduler(*document.find("scheduler"));
  if (const Json* merged = document.find("merged")) check_merged(*merged);
  if (const Json* grid = document.find("grid"); grid != nullptr && grid->kind == Json::Kind::object) {
    check_number("grid.photo_fill", grid->find("photo_fill")->number, -1, 1);
    check_number("grid.reference_fill", grid->find("reference_fill")->number, -1, 1);
  }
  for (const auto& [name, graph] : document.find("graphs")->fields) check_graph("graphs." + name, graph);
  check_files(manifest.files);
  for (const char* key : {"producer", "checkpoint"}) check_count(key, document.find(key)->fields.size(), 4096);
  for (const auto& [name, digest] : document.find("checkpoint")->fields) check_digest("checkpoint." + name, digest.text);
  if (const Json* table = document.find("solver_table"); table != nullptr && table->kind == Json::Kind::object)
    check_solver_table(*table);
}

}  // namespace alterbute
