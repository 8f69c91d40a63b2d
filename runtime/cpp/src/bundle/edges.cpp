#include "bundle/edges.hpp"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <set>

#include "alterbute/errors.hpp"
#include "base/text.hpp"
#include "bundle/limits.hpp"
#include "bundle/typed_json.hpp"

namespace alterbute {
namespace {

using typed::KeyFault;

constexpr std::array<const char*, 2> kOptional = {"source_on", "identity_scale"};
constexpr const char *kFloat = "float32", *kByte = "uint8", *kWhole = "int64", *kDeep = "uint16";
// Of the types that edges of prologues may have besides float32.
constexpr std::uint64_t kHalf = 10, kBrain = 16;

// A size, or the name of a free one.
struct Axis {
  std::int64_t size = kFree;
  const char* name = "";
  Axis(const char* free) : name(free) {}              // NOLINT(google-explicit-constructor)
  Axis(std::int64_t fixed) : size(fixed) {}           // NOLINT(google-explicit-constructor)
  Axis(int fixed) : size(fixed) {}                    // NOLINT(google-explicit-constructor)
};

TensorSpec edge(const char* name, const char* dtype, const std::vector<Axis>& shape) {
  TensorSpec spec{name, dtype, {}, {}};
  for (const Axis& axis : shape) {
    spec.shape.push_back(axis.size);
    spec.axes.emplace_back(axis.name);
  }
  return spec;
}

std::vector<Axis> with_sizes(Axis first, const std::vector<std::int64_t>& sizes) {
  std::vector<Axis> shape = {first};
  shape.insert(shape.end(), sizes.begin(), sizes.end());
  return shape;
}

GraphEdges paste_edges(const char* dtype) {
  return {{edge("edited", kByte, {"SH", "SW", 3}), edge("roundtrip", kByte, {"SH", "SW", 3}),
           edge("object_mask", kByte, {"SH", "SW"}), edge("threshold", kFloat, {1}),
           edge("photo", dtype, {"BH", "BW", 3}), edge("alpha", kByte, {"BH", "BW"})},
          {edge("image", dtype, {"BH", "BW", 3})}};
}

std::vector<TensorSpec> step_inputs(const Manifest& manifest) {
  const std::int64_t channels = manifest.latent_channels, rows = kManifestStateRows;
  const std::vector<Axis> latent = {"B", channels, "h", "w"};
  std::vector<TensorSpec> inputs = {edge("state", kFloat, {"B", rows, channels, "h", "w"}),
                                    edge("noise", kFloat, latent),
                                    edge("timestep", kFloat, {"B"}),
                                    edge("solver", kFloat, {"B", rows, rows + 2}),
                                    edge("reinject", kFloat, {"B", 2}),
                                    edge("background", kFloat, latent),
                                    edge("background_noise", kFloat, latent),
                                    edge("keep", kFloat, {"B", 1, "h", "w"})};
  if (manifest.scene_channels > 0) inputs.push_back(edge("scene", kFloat, {"B", manifest.scene_channels, "h", "w"}));
  inputs.push_back(edge("owner", kWhole, {"N"}));
  inputs.push_back(edge("guidance", kFloat, {"B", "N"}));
  inputs.push_back(edge("source_on", kFloat, {"N"}));
  inputs.push_back(edge("text", kFloat, {"N", "T", manifest.text.dim}));
  if (manifest.text.pooled > 0) {
    inputs.push_back(edge("pooled", kFloat, {"N", manifest.text.pooled}));
    inputs.push_back(edge("time_ids", kFloat, {"N", kTimeIds}));
  }
  if (manifest.identity) {
    inputs.push_back(manifest.identity->kind == "latent"
                         ? edge("identity", kFloat, {"N", channels, "h", "w"})
                         : edge("identity", kFloat, with_sizes("N", manifest.identity->shape)));
    inputs.push_back(edge("identity_scale", kFloat, {"N"}));
  }
  inputs.push_back(edge("guidance_rescale", kFloat, {"B"}));
  inputs.push_back(edge("rescale_row", kWhole, {"B"}));
  return inputs;
}

std::string describe(const std::string& dtype, const std::vector<std::string>& axes) {
  return dtype.substr(0, 16) + " [" + text::join(axes, ",") + "]";
}

std::string describe(const TensorSpec& spec) {
  std::vector<std::string> axes;
  for (std::size_t k = 0; k < spec.shape.size(); ++k)
    axes.push_back(spec.shape[k] == kFree ? spec.axes[k] : std::to_string(spec.shape[k]));
  return describe(spec.dtype, axes);
}

std::uint64_t type_number(const std::string& dtype) {
  return dtype == kFloat ? 1 : dtype == kByte ? 2 : dtype == kDeep ? 4 : dtype == kWhole ? 7 : 0;
}

std::string type_name(std::uint64_t type) {
  for (const char* name : {kFloat, kByte, kDeep, kWhole})
    if (type_number(name) == type) return name;
  return type == kHalf ? "float16" : type == kBrain ? "bfloat16" : "type " + std::to_string(type);
}

std::string describe(const DeclaredEdge& declared) {
  std::vector<std::string> axes;
  for (const auto& size : declared.shape) axes.push_back(size ? std::to_string(*size) : "?");
  return describe(type_name(declared.type), axes);
}

bool is_equal(const TensorSpec& one, const TensorSpec& other) {
  return one.dtype == other.dtype && one.shape == other.shape && one.axes == other.axes;
}

bool fits(const DeclaredEdge& declared, const TensorSpec& spec) {
  if (declared.type != type_number(spec.dtype) || declared.shape.size() != spec.shape.size()) return false;
  for (std::size_t k = 0; k < spec.shape.size(); ++k)
    if (declared.shape[k] && spec.shape[k] >= 0 && *declared.shape[k] != spec.shape[k]) return false;
  return true;
}

template <typename Edge>
const Edge* named(const std::vector<Edge>& edges, const std::string& name) {
  const auto found = std::find_if(edges.begin(), edges.end(), [&](const Edge& edge) { return edge.name == name; });
  return found == edges.end() ? nullptr : &*found;
}

template <typename Edge>
std::string names_of(const std::vector<Edge>& edges) {
  std::vector<std::string> names;
  for (const Edge& edge : edges) names.push_back(edge.name);
  return text::join(names, ", ");
}

void compare(const std::string& key, const std::vector<TensorSpec>& edges, const std::vector<TensorSpec>& expected) {
  std::set<std::string> seen;
  for (const TensorSpec& given : edges) {
    const TensorSpec* known = named(expected, given.name);
    const bool is_new = seen.insert(given.name).second;
    if (known == nullptr || !is_new) {
      throw KeyFault{key, is_new ? "a list with " + text::python_repr(given.name) : text::python_repr(given.name) + " twice",
                     names_of(expected) + ", each once"};
    }
    if (!is_equal(given, *known)) throw KeyFault{key + "." + given.name, describe(given), describe(*known)};
  }
  for (const TensorSpec& known : expected) {
    const bool is_optional = std::find(kOptional.begin(), kOptional.end(), known.name) != kOptional.end();
    if (!is_optional && seen.count(known.name) == 0) throw KeyFault{key + "." + known.name, "missing", describe(known)};
  }
}

[[noreturn]] void refuse(const std::string& file, const std::string& seen, const std::string& expected) {
  throw BundleError("the bundle's graph file " + text::python_repr(file) + " " + seen, expected, kExportAgain);
}

[[noreturn]] void refuse_edge(const std::string& file, const char* side, const std::string& name,
                              const std::string& seen, const std::string& expected) {
  refuse(file, std::string("has the ") + side + " " + text::python_repr(text::first_points(name, 80)) + " " + seen,
         expected);
}

void check_distinct(const std::string& file, const std::vector<DeclaredEdge>& edges, const char* side) {
  std::set<std::string> seen;
  for (const DeclaredEdge& declared : edges)
    if (!seen.insert(declared.name).second) refuse_edge(file, side, declared.name, "twice", "each once");
}

// Every declared edge is one of the manifest's or of `more`.
void check_known(const std::string& file, const std::vector<DeclaredEdge>& edges, const std::vector<TensorSpec>& specs,
                 const std::vector<DeclaredEdge>* more, const char* side) {
  check_distinct(file, edges, side);
  for (const DeclaredEdge& declared : edges) {
    const TensorSpec* spec = named(specs, declared.name);
    const DeclaredEdge* made = more == nullptr ? nullptr : named(*more, declared.name);
    if (spec == nullptr && made == nullptr)
      refuse_edge(file, side, declared.name, "of its own", "those of the manifest: " + names_of(specs));
    const bool is_fine = spec != nullptr
                             ? fits(declared, *spec)
                             : made->type == declared.type && made->shape.size() == declared.shape.size();
    if (!is_fine)
      refuse_edge(file, side, declared.name, "as " + describe(declared),
                  spec != nullptr ? describe(*spec) : describe(*made));
  }
}

void check_all_there(const std::string& file, const std::vector<DeclaredEdge>& edges,
                     const std::vector<TensorSpec>& specs, const char* side) {
  for (const TensorSpec& spec : specs)
    if (named(edges, spec.name) == nullptr)
      refuse(file, std::string("has no ") + side + " " + text::python_repr(spec.name), describe(spec));
}

}  // namespace

Named<GraphEdges> make_edges(const Manifest& manifest) {
  const std::int64_t channels = manifest.latent_channels;
  const std::vector<Axis> latent = {"B", channels, "h", "w"};
  GraphEdges prompt{{edge("ids", kWhole, {"N", "T"})}, {edge("text", kFloat, {"N", "T", manifest.text.dim})}};
  if (manifest.text.pooled > 0) prompt.outputs.push_back(edge("pooled", kFloat, {"N", manifest.text.pooled}));
  GraphEdges scene{{edge("photo", kByte, {"B", "S", "S", 3}), edge("mask", kByte, {"B", "S", "S"})}, {}};
  if (std::find(manifest.scene.begin(), manifest.scene.end(), "reference") != manifest.scene.end()) {
    scene.inputs.push_back(edge("reference", kByte, {"B", "S", "S", 3}));
    scene.inputs.push_back(edge("reference_mask", kByte, {"B", "S", "S"}));
  }
  if (manifest.scene_channels > 0)
    scene.outputs.push_back(edge("scene", kFloat, {"B", manifest.scene_channels, "h", "w"}));
  scene.outputs.push_back(edge("background", kFloat, latent));
  scene.outputs.push_back(edge("keep", kFloat, {"B", 1, "h", "w"}));
  const GraphEdges step{step_inputs(manifest),
                        {edge("next_state", kFloat, {"B", kManifestStateRows, channels, "h", "w"})}};
  const GraphEdges decode{{edge("latent", kFloat, latent)},
                          {edge("image", kByte, {"B", "S", "S", 3}), edge("mean", kFloat, {"B"})}};
  const GraphEdges window{
      {edge("image", kByte, {"H", "W", 3}), edge("opacity", kByte, {"OH", "OW"}), edge("mask", kByte, {"H", "W"}),
       edge("region", kByte, {"H", "W"}), edge("protect", kByte, {"H", "W"}), edge("box", kWhole, {4}),
       edge("size", kWhole, {2}), edge("rules", kWhole, {4})},
      {edge("window", kByte, {"SH", "SW", 3}), edge("object_mask", kByte, {"SH", "SW"}),
       edge("window_mask", kByte, {"SH", "SW"}), edge("alpha", kByte, {"BH", "BW"})}};
  Named<GraphEdges> all = {{"prompt", prompt}, {"scene", scene},   {"step", step},
                           {"decode", decode}, {"window", window}, {"paste", paste_edges(kByte)},
                           {"paste16", paste_edges(kDeep)}};
  if (manifest.identity) {
    const std::int64_t size = manifest.identity->size;
    const auto& shape = manifest.identity->shape;
    all.emplace_back("identity", GraphEdges{{edge("reference", kByte, {"M", size, size, 3}),
                                             edge("reference_mask", kByte, {"M", size, size})},
                                            {edge("identity", kFloat, with_sizes("M", shape)),
                                             edge("null_identity", kFloat, with_sizes(1, shape))}});
  }
  return all;
}

void check_edges(const Manifest& manifest) {
  const Named<GraphEdges> expected = make_edges(manifest);
  std::vector<std::string> names;
  for (const auto& [name, edges] : expected) names.push_back(name);
  const std::string all = text::join(names, ", ");
  for (const auto& [name, graph] : manifest.graphs)
    if (find(expected, name) == nullptr) throw KeyFault{"graphs." + name, "an unknown graph", "only " + all};
  for (const auto& [name, edges] : expected) {
    const Graph* graph = find(manifest.graphs, name);
    if (graph == nullptr) throw KeyFault{"graphs." + name, "missing", "the graphs " + all};
    compare("graphs." + name + ".inputs", graph->inputs, edges.inputs);
    compare("graphs." + name + ".outputs", graph->outputs, edges.outputs);
  }
}

void check_declared(const std::string& file, const GraphFile& declared, const Graph& graph, const GraphFile* prologue) {
  std::vector<DeclaredEdge> read = declared.inputs;
  if (prologue != nullptr) read.insert(read.end(), prologue->inputs.begin(), prologue->inputs.end());
  check_known(file, declared.inputs, graph.inputs, prologue == nullptr ? nullptr : &prologue->outputs, "input");
  check_known(file, declared.outputs, graph.outputs, nullptr, "output");
  check_all_there(file, read, graph.inputs, "input");
  check_all_there(file, declared.outputs, graph.outputs, "output");
}

void check_prologue(const std::string& file, const GraphFile& declared, const Graph& graph) {
  check_known(file, declared.inputs, graph.inputs, nullptr, "input");
  check_distinct(file, declared.outputs, "output");
  for (const DeclaredEdge& made : declared.outputs) {
    if (named(graph.inputs, made.name) != nullptr || named(graph.outputs, made.name) != nullptr)
      refuse_edge(file, "output", made.name, "of the step graph", "a name of its own");
    if (made.type != 1 && made.type != kHalf && made.type != kBrain)
      refuse_edge(file, "output", made.name, "as " + describe(made), "float32, float16 or bfloat16");
  }
}

}  // namespace alterbute
