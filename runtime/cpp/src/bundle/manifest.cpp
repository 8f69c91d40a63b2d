#include "bundle/manifest.hpp"

#include <algorithm>

#include "alterbute/errors.hpp"
#include "bundle/edges.hpp"
#include "bundle/engine_entries.hpp"
#include "bundle/limits.hpp"
#include "base/text.hpp"
#include "bundle/typed_json.hpp"
#include "bundle/variants.hpp"

namespace alterbute {
namespace {

using typed::KeyFault;
using typed::Record;

TensorSpec read_tensor(const Json& value, const std::string& key) {
  const Record record(value, key, {"name", "dtype", "shape"});
  TensorSpec spec;
  spec.name = typed::string(record.at("name"), record.path("name"));
  spec.dtype = typed::string(record.at("dtype"), record.path("dtype"));
  spec.shape = typed::list(record.at("shape"), record.path("shape"), [&](const Json& size, const std::string& place) {
    const bool is_free = size.kind == Json::Kind::string;
    spec.axes.push_back(is_free ? size.text : std::string());
    return is_free ? kFree : typed::integer(size, place);
  });
  return spec;
}

void check_parity(const Json& value, const std::string& key) {
  if (value.kind == Json::Kind::null) return;
  const Record record(value, key, {"relative_error", "against"});
  typed::number(record.at("relative_error"), record.path("relative_error"));
  typed::string(record.at("against"), record.path("against"));
}

Graph read_graph(const Json& value, const std::string& key) {
  const Record record(value, key, {"variants", "inputs", "outputs", "parity"});
  Graph graph;
  graph.variants = typed::list(record.at("variants"), record.path("variants"), read_variant);
  graph.inputs = typed::list(record.at("inputs"), record.path("inputs"), read_tensor);
  graph.outputs = typed::list(record.at("outputs"), record.path("outputs"), read_tensor);
  check_parity(record.at("parity"), record.path("parity"));
  return graph;
}

FileEntry read_file(const Json& value, const std::string& key) {
  const Record record(value, key, {"sha256", "size"});
  return {typed::string(record.at("sha256"), record.path("sha256")),
          typed::integer(record.at("size"), record.path("size"))};
}

MaskRules read_mask(const Json& value, const std::string& key) {
  const Record record(value, key, {"dilate", "margin"});
  return {typed::integer(record.at("dilate"), record.path("dilate")),
          typed::number(record.at("margin"), record.path("margin"))};
}

DetailRules read_detail(const Json& value, const std::string& key) {
  const Record record(value, key, {"radius", "ridge", "threshold", "attributes"});
  return {typed::integer(record.at("radius"), record.path("radius")),
          typed::number(record.at("ridge"), record.path("ridge")),
          typed::number(record.at("threshold"), record.path("threshold")),
          typed::list(record.at("attributes"), record.path("attributes"), typed::string)};
}

GuidanceRules read_guidance(const Json& value, const std::string& key) {
  const Record record(value, key, {"forms", "scale", "identity", "rescale", "interval"});
  GuidanceRules rules;
  rules.forms = typed::list(record.at("forms"), record.path("forms"), [](const Json& form, const std::string& place) {
    return typed::choice(form, place, {"none", "text", "identity"});
  });
  rules.scale = typed::number(record.at("scale"), record.path("scale"));
  rules.identity = typed::number(record.at("identity"), record.path("identity"));
  rules.rescale = typed::number(record.at("rescale"), record.path("rescale"));
  rules.interval = typed::list(record.at("interval"), record.path("interval"), typed::number);
  return rules;
}

Defaults read_defaults(const Json& value, const std::string& key) {
  const Record record(value, key, {"steps", "solver", "spacing", "strength"});
  return {typed::integer(record.at("steps"), record.path("steps")),
          typed::string(record.at("solver"), record.path("solver")),
          typed::string(record.at("spacing"), record.path("spacing")),
          typed::number(record.at("strength"), record.path("strength"))};
}

TextRules read_text(const Json& value, const std::string& key) {
  const Record record(value, key, {"tokens", "dim", "pooled", "tokenizer", "start_id", "end_id", "pad_id"});
  TextRules rules;
  rules.tokens = typed::integer(record.at("tokens"), record.path("tokens"));
  rules.dim = typed::integer(record.at("dim"), record.path("dim"));
  rules.pooled = typed::integer(record.at("pooled"), record.path("pooled"));
  rules.tokenizer = typed::string(record.at("tokenizer"), record.path("tokenizer"));
  rules.start_id = typed::integer(record.at("start_id"), record.path("start_id"));
  rules.end_id = typed::integer(record.at("end_id"), record.path("end_id"));
  rules.pad_id = typed::integer(record.at("pad_id"), record.path("pad_id"));
  return rules;
}

IdentityRules read_identity(const Json& value, const std::string& key) {
  const Record record(value, key, {"kind", "shape", "size"});
  IdentityRules rules;
  rules.kind = typed::choice(record.at("kind"), record.path("kind"), {"tokens", "latent"});
  rules.shape = typed::list(record.at("shape"), record.path("shape"), typed::integer);
  rules.size = typed::integer(record.at("size"), record.path("size"));
  return rules;
}

SolverTableEntry read_solver_table(const Json& value, const std::string& key) {
  const Record record(value, key, {"file", "max_steps", "spacing", "solvers"});
  SolverTableEntry entry{typed::string(record.at("file"), record.path("file"))};
  typed::integer(record.at("max_steps"), record.path("max_steps"));
  typed::string(record.at("spacing"), record.path("spacing"));
  typed::list(record.at("solvers"), record.path("solvers"), typed::string);
  return entry;
}

// Family `grid` needs no further field: its layout is part of its graphs.
void check_grid(const Json& value, const std::string& key) {
  const Record record(value, key, {"blank", "null_identity", "photo_fill", "reference_fill", "mask"});
  typed::choice(record.at("blank"), record.path("blank"), {"zeros"});
  typed::choice(record.at("null_identity"), record.path("null_identity"), {"zeros", "encoded"});
  typed::number(record.at("photo_fill"), record.path("photo_fill"));
  typed::number(record.at("reference_fill"), record.path("reference_fill"));
  typed::choice(record.at("mask"), record.path("mask"), {"object", "background"});
}

// A file that was merged into the weights at export.
bool check_merged(const Json& value, const std::string& key) {
  const Record record(value, key, {"kind", "file", "sha256", "weight", "token"});
  typed::choice(record.at("kind"), record.path("kind"), {"lora", "embedding"});
  typed::string(record.at("file"), record.path("file"));
  typed::string(record.at("sha256"), record.path("sha256"));
  typed::number(record.at("weight"), record.path("weight"));
  if (record.at("token").kind != Json::Kind::null) typed::string(record.at("token"), record.path("token"));
  return true;
}

std::vector<std::string> read_words(const Json& value, const std::string& key) {
  return typed::list(value, key, typed::string);
}

// Any JSON is allowed under a scheduler's key: no field of it is read here.
bool skip(const Json&, const std::string&) { return true; }

Manifest build(const Json& document, std::vector<EngineEntry>& engines) {
  const Record record(document, "", {"schema_version", "name",           "family",     "resolution",  "latent_channels",
                                     "latent_factor",  "scene_channels", "state_rows", "latent_mask", "residual",
                                     "scene",          "reinject",       "mask",       "detail",        "scheduler",   "guidance",
                                     "defaults",       "text",           "time_ids",   "identity",    "attributes",
                                     "graphs",         "files",          "producer",   "checkpoint"},
                      {"grid", "merged", "engines", "solver_table", "resolutions"});
  const auto given = [&](const char* name) {
    const Json* value = record.find(name);
    return value != nullptr && value->kind != Json::Kind::null ? value : nullptr;
  };
  Manifest manifest;
  typed::integer(record.at("schema_version"), "schema_version");
  manifest.name = typed::string(record.at("name"), "name");
  manifest.family = typed::choice(record.at("family"), "family", {"adapter", "grid", "instruct", "plain"});
  manifest.resolution = typed::integer(record.at("resolution"), "resolution");
  if (const Json* sides = record.find("resolutions")) manifest.resolutions = typed::list(*sides, "resolutions", typed::integer);
  manifest.latent_channels = typed::integer(record.at("latent_channels"), "latent_channels");
  manifest.latent_factor = typed::integer(record.at("latent_factor"), "latent_factor");
  manifest.scene_channels = typed::integer(record.at("scene_channels"), "scene_channels");
  manifest.state_rows = typed::integer(record.at("state_rows"), "state_rows");
  typed::choice(record.at("latent_mask"), "latent_mask", {"area", "nearest"});
  if (record.at("residual").kind != Json::Kind::null) typed::choice(record.at("residual"), "residual", {"collage"});
  manifest.scene = typed::list(record.at("scene"), "scene", [](const Json& part, const std::string& key) {
    return typed::choice(part, key, {"mask", "masked_photo", "reference", "photo"});
  });
  manifest.reinject = typed::boolean(record.at("reinject"), "reinject");
  manifest.mask = read_mask(record.at("mask"), "mask");
  manifest.detail = read_detail(record.at("detail"), "detail");
  typed::map(record.at("scheduler"), "scheduler", skip);
  manifest.guidance = read_guidance(record.at("guidance"), "guidance");
  manifest.defaults = read_defaults(record.at("defaults"), "defaults");
  manifest.text = read_text(record.at("text"), "text");
  if (record.at("time_ids").kind != Json::Kind::null)
    manifest.time_ids = typed::list(record.at("time_ids"), "time_ids", typed::number);
  if (record.at("identity").kind != Json::Kind::null)
    manifest.identity = read_identity(record.at("identity"), "identity");
  if (const Json* grid = given("grid")) {
    check_grid(*grid, "grid");
    manifest.has_grid = true;
  }
  if (record.at("attributes").kind != Json::Kind::null)
    manifest.attributes = typed::map(record.at("attributes"), "attributes", read_words);
  if (const Json* merged = record.find("merged")) typed::list(*merged, "merged", check_merged);
  manifest.graphs = typed::map(record.at("graphs"), "graphs", read_graph);
  manifest.files = typed::map(record.at("files"), "files", read_file);
  typed::map(record.at("producer"), "producer", typed::string);
  typed::map(record.at("checkpoint"), "checkpoint", typed::string);
  if (const Json* entries = record.find("engines")) engines = read_engines(*entries, "engines");
  if (const Json* table = given("solver_table")) manifest.solver_table = read_solver_table(*table, "solver_table");
  return manifest;
}

// This runtime's windows have one size. Taking it where Python would choose another would give other bytes.
void check_resolutions(const Manifest& manifest) {
  const auto& sides = manifest.resolutions;
  if (sides.size() > 1) {
    throw BundleError("the bundle has the resolutions " + text::python_repr(sides), "one, which is what the C++ runtime edits at",
                      "edit with the Python runtime, or export the bundle again without `resolutions`");
  }
  if (!sides.empty() && sides.front() != manifest.resolution) {
    throw KeyFault{"resolutions", text::python_repr(sides),
                   "rising multiples of latent_factor " + text::python_repr(manifest.latent_factor) + ", `resolution` " +
                       text::python_repr(manifest.resolution) + " among them"};
  }
}

// The UNet's conditioning: scene, identity, guidance and strength.
void check_conditions(const Manifest& manifest) {
  if ((manifest.scene_channels != 0) != !manifest.scene.empty())
    throw KeyFault{"scene_channels", text::python_repr(manifest.scene_channels), "0 exactly when `scene` is empty"};
  const std::size_t times = manifest.time_ids ? manifest.time_ids->size() : 0;
  const std::size_t wanted = manifest.text.pooled > 0 ? static_cast<std::size_t>(kTimeIds) : 0;
  if (times != wanted || (manifest.time_ids && times == 0)) {
    throw KeyFault{"time_ids", std::to_string(times) + " numbers",
                   std::to_string(kTimeIds) + " exactly when `text.pooled` is above 0"};
  }
  if (manifest.identity && manifest.identity->shape.size() != (manifest.identity->kind == "tokens" ? 2U : 3U)) {
    throw KeyFault{"identity.shape", text::python_repr(manifest.identity->shape), "[Ti, D] for tokens, [C, h, w] for a latent"};
  }
  const std::vector<std::int64_t> latent = {manifest.latent_channels, manifest.latent_side(), manifest.latent_side()};
  if (manifest.identity && manifest.identity->kind == "latent" && manifest.identity->shape != latent) {
    throw KeyFault{"identity.shape", text::python_repr(manifest.identity->shape),
                   text::python_repr(latent) + ", a latent of the window"};
  }
  if (manifest.has_grid != (manifest.family == "grid")) {
    throw KeyFault{"grid", manifest.has_grid ? "given" : "missing", "rules exactly for family grid"};
  }
  const auto& interval = manifest.guidance.interval;
  if (interval.size() != 2 || !(0 <= interval[0] && interval[0] <= interval[1] && interval[1] <= 1)) {
    throw KeyFault{"guidance.interval", text::python_repr(interval), "two shares of the steps, rising, in [0, 1]"};
  }
}

// A file that the manifest lists, of at most `most` bytes.
void check_listed(const std::string& key, const std::string& name, const Manifest& manifest, std::int64_t most) {
  const FileEntry* entry = find(manifest.files, name);
  if (entry == nullptr) throw KeyFault{key, text::python_repr(name), "a name listed in `files`"};
  if (entry->size > most) {
    throw KeyFault{key, text::python_repr(name) + " of " + std::to_string(entry->size) + " bytes",
                   "at most " + std::to_string(most)};
  }
}

// Rules beyond types.
void check(const Manifest& manifest, const Json& document, const std::vector<EngineEntry>& engines) {
  check_limits(manifest, document);
  if (manifest.mask.dilate % 2 == 0)
    throw KeyFault{"mask.dilate", text::python_repr(manifest.mask.dilate), "an odd kernel size"};
  if (manifest.resolution % manifest.latent_factor != 0) {
    throw KeyFault{"resolution", text::python_repr(manifest.resolution),
                   "a multiple of latent_factor " + text::python_repr(manifest.latent_factor)};
  }
  check_resolutions(manifest);
  check_conditions(manifest);
  for (const char* name : {kManifestFile, kSignatureFile}) {
    if (find(manifest.files, name) != nullptr)
      throw KeyFault{"files", "the name " + text::python_repr(name), "the other files of the bundle"};
  }
  check_edges(manifest);
  for (const auto& [name, graph] : manifest.graphs) {
    for (const Variant& variant : graph.variants) {
      check_variant("graphs." + name, variant);
      check_listed("graphs." + name, variant.file, manifest, kGraphLimitBytes);
      if (variant.prologue) check_listed("graphs." + name, *variant.prologue, manifest, kGraphLimitBytes);
    }
  }
  if (manifest.solver_table) check_listed("solver_table.file", manifest.solver_table->file, manifest, kGraphLimitBytes);
  check_engines(engines, manifest);
  check_listed("text.tokenizer", manifest.text.tokenizer, manifest, kTokenizerLimitBytes);
}

Json parse_document(std::string_view text) {
  try {
    return parse_json(text);
  } catch (const JsonFault& fault) {
    throw BundleError(std::string(kManifestFile) + " is not JSON (" + fault.what() + ")", "a JSON object",
                      kExportAgain);
  }
}

}  // namespace

bool is_weights_name(std::string_view name) {
  constexpr std::string_view kStart = "weights", kEnd = ".bin";
  return name.size() >= kStart.size() + kEnd.size() && name.substr(0, kStart.size()) == kStart &&
         name.substr(name.size() - kEnd.size()) == kEnd && name.find('/') == std::string_view::npos;
}

bool Graph::has_input(std::string_view name) const {
  return std::any_of(inputs.begin(), inputs.end(), [&](const TensorSpec& spec) { return spec.name == name; });
}

const Graph& Manifest::graph(std::string_view graph_name) const { return *find(graphs, graph_name); }

Manifest parse_manifest(std::string_view text) {
  const Json document = parse_document(text);
  const Json* version = document.find("schema_version");
  // The version goes first: the keys of another version's manifest cannot be checked.
  if (version != nullptr && version->kind == Json::Kind::integer && version->number != kSchemaVersion) {
    throw BundleError("the bundle has manifest schema " + version->text,
                      std::to_string(kSchemaVersion) + ", the only one that this alterbute reads",
                      version->number > kSchemaVersion
                          ? "install a newer alterbute, or export the bundle again with this one"
                          : kExportAgain);
  }
  try {
    std::vector<EngineEntry> engines;
    check_document(document);
    Manifest manifest = build(document, engines);
    check(manifest, document, engines);
    try {
      check_training(*document.find("scheduler"));
    } catch (const KeyFault& fault) {
      manifest.scheduler_fault = "`" + fault.key + "` is " + fault.seen + ", not " + fault.expected;
    }
    return manifest;
  } catch (const KeyFault& fault) {
    const std::string key = fault.key.empty() ? "(top)" : fault.key;
    throw BundleError(std::string(kManifestFile) + " key `" + key + "` is " + fault.seen, fault.expected, kExportAgain);
  }
}

}  // namespace alterbute
