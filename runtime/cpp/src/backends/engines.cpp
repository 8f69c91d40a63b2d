#include "backends/engines.hpp"

#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <string_view>

#include "backends/check_outputs.hpp"
#include "backends/choose_variant.hpp"
#include "backends/cuda/buckets.hpp"
#include "backends/first_run.hpp"
#include "base/text.hpp"
#include "bundle/edges.hpp"
#include "bundle/graph_file.hpp"

namespace alterbute {
namespace {

constexpr const char* kStep = "step";
// The session of the step graph's prologue, which is no graph of the manifest's list.
constexpr const char* kPrologue = "step.prologue";
// The step graph takes as long to load as all others together: it is loaded first, the rest in the order of an edit.
constexpr std::array<const char*, 9> kLoadOrder = {kStep,    kPrologue, "window", "scene",  "identity",
                                                   "prompt", "decode",  "paste",  "paste16"};
constexpr std::size_t kNumLoaders = 2;
// Up to two threads a slot's bits do not depend on the other slots of its launch; `threads` may ask for more.
constexpr int kExactThreads = 2;
// A launch of one slot or one row runs ONNX Runtime's matrix-vector kernels on the CPU, which add in another order than
// its matrix kernels: from two of each on, a slot's bits do not depend on the other slots of its launch.
constexpr LaunchShape kLeast{2, 2};

bool is_one_of(const std::string& name, std::initializer_list<const char*> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

int usable_cpus() {
#ifdef __linux__
  cpu_set_t cpus;
  if (::sched_getaffinity(0, sizeof cpus, &cpus) == 0) return CPU_COUNT(&cpus);
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// The index of the GPU in "cuda" or "cuda:1"; -1 for the CPU.
int gpu_of(const std::string& device) {
  constexpr std::string_view kCuda = "cuda";
  if (device == "cpu") return -1;
  if (device == kCuda) return 0;
  const std::string index = device.substr(std::min(device.size(), kCuda.size() + 1));
  const bool is_number = index.find_first_not_of("0123456789") == std::string::npos;
  const bool is_index = !index.empty() && index.size() < 4 && is_number;
  if (device.compare(0, kCuda.size() + 1, "cuda:") != 0 || !is_index) {
    throw InputError("the device is " + text::python_repr(device),
                     "one of cpu, cuda, or cuda:1 for the GPU of that index", "choose one of those", "device", "device_unknown");
  }
  return std::stoi(index);
}

bool is_image_graph(const std::string& graph) { return is_one_of(graph, {"window", "paste", "paste16"}); }

}  // namespace

Engines::Engines(std::shared_ptr<const Bundle> bundle, const EditorOptions& options)
    : bundle_(std::move(bundle)),
      threads_(options.threads > 0 ? options.threads : std::min(usable_cpus(), kExactThreads)),
      slots_(options.slots),
      exact_(options.exact) {
  const int gpu = gpu_of(options.device);
  runtime_ = OnnxRuntime::load(options.onnxruntime);
  if (gpu >= 0) cuda_ = std::make_unique<CudaBackend>(*runtime_, gpu, options.cuda_stream);
  struct Task {
    std::string graph;
    std::packaged_task<Loaded()> make;
  };
  const auto tasks = std::make_shared<std::vector<Task>>();
  auto reading = std::make_shared<std::packaged_task<std::shared_ptr<const Weights>()>>(
      [this] { return std::make_shared<const Weights>(read_weights()); });
  weights_ = reading->get_future().share();
  for (const char* graph : kLoadOrder) {
    if (!has_graph(graph)) continue;
    tasks->push_back({graph, std::packaged_task<Loaded()>([this, graph] { return make_session(graph); })});
    sessions_[graph] = tasks->back().make.get_future().share();
  }
  const auto next = std::make_shared<std::atomic<std::size_t>>(0);
  const auto left = std::make_shared<std::atomic<std::size_t>>(kNumLoaders);
  for (std::size_t k = 0; k < kNumLoaders; ++k) {
    loaders_.emplace_back([this, k, tasks, next, left, reading] {
      if (k == 0) (*reading)();
      for (std::size_t task = (*next)++; task < tasks->size(); task = (*next)++) (*tasks)[task].make();
      // Sessions keep their own copy of what they need: once all are made, the files' bytes are freed.
      if (--*left == 0) weights_ = {};
    });
  }
}

Engines::~Engines() {
  for (std::thread& loader : loaders_) loader.join();
  // Sessions of a lost GPU are never freed.
  if (cuda_ != nullptr && !cuda_->close([this] { sessions_.clear(); })) new auto(std::move(sessions_));
}

Arrays Engines::run(const std::string& graph, const ArrayViews& inputs, const ArrayViews& into,
                    AxisSizes sizes) const {
  const Manifest& manifest = bundle_->manifest();
  sizes.insert({{"S", manifest.resolution}, {"h", manifest.latent_side()}, {"w", manifest.latent_side()}});
  const Session& session = *sessions_.at(graph).get();
  Arrays outputs =
      cuda_ != nullptr && !is_image_graph(graph) ? cuda_->run(session, inputs, into) : session.run(inputs, into);
  check_outputs(graph, manifest.graph(graph), inputs, outputs, into, std::move(sizes));
  return outputs;
}

std::unique_ptr<StepState> Engines::open_step_state(const Shape& state, const LaunchShape& most) const {
  if (cuda_ != nullptr) return cuda_->open_step_state(step_graphs(state));
  return std::make_unique<HostStepState>(
      state, kLeast, most, [this](const ArrayViews& inputs, const ArrayViews& into) { run(kStep, inputs, into); });
}

void Engines::wait() const {
  for (const auto& [graph, session] : sessions_) session.get();
}

void Engines::warm_up(const Shape& state) const {
  wait();
  if (cuda_ == nullptr) return;
  const Manifest& manifest = bundle_->manifest();
  const std::map<std::string, std::int64_t> sizes = {{"S", manifest.resolution},
                                                     {"h", manifest.latent_side()},
                                                     {"w", manifest.latent_side()},
                                                     {"T", manifest.text.tokens}};
  for (const auto& [graph, session] : sessions_) {
    if (graph == kStep || graph == kPrologue || is_image_graph(graph)) continue;
    const Arrays inputs = zero_inputs(*session.get(), sizes);
    ArrayViews views;
    for (const auto& [name, array] : inputs) views[name] = array.view();
    run(graph, views);
  }
  cuda_->warm_up(step_graphs(state));
}

const Variant& Engines::variant(const std::string& graph) const {
  const bool is_on_gpu = cuda_ != nullptr && !is_image_graph(graph);
  return is_on_gpu ? cuda_variant(bundle_->manifest(), graph, exact_) : cpu_variant(bundle_->manifest(), graph);
}

// On the CPU the step graph does the prologue's work itself.
bool Engines::has_graph(const std::string& graph) const {
  if (graph == kPrologue) return cuda_ != nullptr && variant(kStep).prologue.has_value();
  return find(bundle_->manifest().graphs, graph) != nullptr;
}

// On a GPU every external data file: variants of other precisions may have some of their own.
Weights Engines::read_weights() const {
  Weights weights;
  for (const auto& [name, entry] : bundle_->manifest().files)
    if (name == kWeightsFile || (cuda_ != nullptr && is_weights_name(name))) weights[name] = bundle_->read(name);
  return weights;
}

// The bytes of a graph's file, after its edges and its weights' places were held against the manifest.
Bytes Engines::read_checked(const std::string& graph) const {
  const Manifest& manifest = bundle_->manifest();
  const Variant& chosen = variant(graph == kPrologue ? kStep : graph);
  const Graph& listed = manifest.graph(graph == kPrologue ? kStep : graph);
  DataSizes sizes;
  for (const auto& [name, entry] : manifest.files)
    if (is_weights_name(name)) sizes[name] = static_cast<std::uint64_t>(entry.size);
  const auto declared = [&](const std::string& file, const Bytes& model) {
    return read_graph_file(file, {model.data(), model.size()}, sizes);
  };
  if (graph == kPrologue) {
    Bytes model = bundle_->read(*chosen.prologue);
    check_prologue(*chosen.prologue, declared(*chosen.prologue, model), listed);
    return model;
  }
  Bytes model = bundle_->read(chosen.file);
  const GraphFile file = declared(chosen.file, model);
  if (graph == kStep && has_graph(kPrologue)) {
    const GraphFile prologue = declared(*chosen.prologue, bundle_->read(*chosen.prologue));
    check_declared(chosen.file, file, listed, &prologue);
  } else {
    check_declared(chosen.file, file, listed);
  }
  return model;
}

Engines::Loaded Engines::make_session(const std::string& graph) const {
  const Bytes model = read_checked(graph);
  const std::shared_ptr<const Weights> weights = weights_.get();
  SessionOptions options;
  options.threads = is_one_of(graph, {"scene", kStep, kPrologue, "decode"}) ? threads_ : 1;
  // The planes of a large photo are hundreds of megabytes, which an arena would keep after the run.
  options.keeps_memory = !is_image_graph(graph);
  const auto make = [&] { return std::make_shared<const Session>(runtime_, graph, model, *weights, options); };
  if (cuda_ == nullptr || is_image_graph(graph)) return make();
  // Only the step graph runs over fixed addresses.
  options.cuda = cuda_->provider(graph == kStep);
  return cuda_->load(make);
}

StepGraphs Engines::step_graphs(const Shape& state) const {
  StepGraphs graphs;
  graphs.step = sessions_.at(kStep).get().get();
  if (const auto prologue = sessions_.find(kPrologue); prologue != sessions_.end())
    graphs.prologue = prologue->second.get().get();
  graphs.buckets = exact_ ? std::vector<LaunchShape>{full_bucket(slots_)}
                          : choose_buckets(variant(kStep).buckets, slots_);
  graphs.state.assign(state.begin() + 1, state.end());
  graphs.tokens = bundle_->manifest().text.tokens;
  return graphs;
}

}  // namespace alterbute
