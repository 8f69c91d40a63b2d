// `manifest.json` as a structure: written by the exporter, read by every runtime.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace alterbute {

constexpr int kSchemaVersion = 4;
constexpr const char* kManifestFile = "manifest.json";
constexpr const char* kSignatureFile = "manifest.sig";
// The one external data file that all graphs share.
constexpr const char* kWeightsFile = "weights.bin";
// Whether a file may hold weights of graphs: weights*.bin.
bool is_weights_name(std::string_view name);
constexpr const char* kExportAgain = "export the bundle again with `alterbute-export bundle`";

// The size of a free dimension; below every number that a manifest can hold.
constexpr std::int64_t kFree = INT64_MIN;

// One input or output of a graph: its sizes, kFree where a dimension is free; `axes` has the free ones' names, else "".
struct TensorSpec {
  std::string name, dtype;
  std::vector<std::int64_t> shape;
  std::vector<std::string> axes;
};

// A launch of the step graph: `slots` images in `rows` UNet rows.
struct LaunchShape {
  std::int64_t slots = 1, rows = 1;
};

struct Variant {
  std::string backend, file, precision = "fp32";
  std::optional<std::string> prologue;  // a graph that makes some of the inputs of `file`
  std::vector<LaunchShape> buckets;
  bool is_deterministic = true;
};

struct Graph {
  std::vector<Variant> variants;
  std::vector<TensorSpec> inputs, outputs;

  bool has_input(std::string_view name) const;
};

struct FileEntry {
  std::string sha256;
  std::int64_t size = 0;
};

struct MaskRules {
  std::int64_t dilate = 1;
  double margin = 1;
};

struct DetailRules {
  std::int64_t radius = 1;
  double ridge = 1, threshold = 0;
  std::vector<std::string> attributes;
};

struct GuidanceRules {
  std::vector<std::string> forms;
  double scale = 1, identity = 1, rescale = 0;
  std::vector<double> interval;
};

struct Defaults {
  std::int64_t steps = 1;
  std::string solver, spacing;
  double strength = 1;
};

struct TextRules {
  std::int64_t tokens = 0, dim = 0, pooled = 0;
  std::string tokenizer;
  std::int64_t start_id = 0, end_id = 0, pad_id = 0;
};

struct IdentityRules {
  std::string kind;
  std::vector<std::int64_t> shape;
  std::int64_t size = 0;
};

// The solvers as numbers, at 1..`max_steps` steps.
struct SolverTableEntry {
  std::string file;
};

template <typename Value>
using Named = std::vector<std::pair<std::string, Value>>;  // in the order of the file

template <typename Value>
const Value* find(const Named<Value>& entries, std::string_view name) {
  for (const auto& [key, value] : entries) {
    if (key == name) return &value;
  }
  return nullptr;
}

// The description of a bundle, read before a graph is opened; the Python `Manifest` documents each field.
struct Manifest {
  std::string name, family;
  std::int64_t resolution = 0, latent_channels = 0, latent_factor = 0, scene_channels = 0, state_rows = 0;
  std::vector<std::int64_t> resolutions;
  std::vector<std::string> scene;
  bool reinject = false, has_grid = false;
  MaskRules mask;
  DetailRules detail;
  GuidanceRules guidance;
  Defaults defaults;
  TextRules text;
  std::optional<std::vector<double>> time_ids;
  std::optional<IdentityRules> identity;
  std::optional<Named<std::vector<std::string>>> attributes;
  Named<Graph> graphs;
  Named<FileEntry> files;
  std::optional<SolverTableEntry> solver_table;
  std::string scheduler_fault;  // why no editor can be opened, "" where one can: a manifest is sound without a scheduler

  const Graph& graph(std::string_view graph_name) const;
  std::int64_t latent_side() const { return resolution / latent_factor; }
};

// JSON text to a checked Manifest. Throws BundleError: not JSON, another schema, or a key that is missing, unknown or
// wrong; the key is named.
Manifest parse_manifest(std::string_view text);

}  // namespace alterbute
