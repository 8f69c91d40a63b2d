#include "backends/engines.hpp"

#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <set>

#include "base/text.hpp"

namespace alterbute {
namespace {

constexpr const char* kBackend = "onnxruntime";
// The step graph takes as long to load as all others together: it is loaded first, the rest in the order of an edit.
constexpr std::array<const char*, 8> kLoadOrder = {"step",   "window", "scene", "identity",
                                                   "prompt", "decode", "paste", "paste16"};
constexpr std::size_t kNumLoaders = 2;
// Up to two threads a slot's bits do not depend on the other slots of its launch; `threads` may ask for more.
constexpr int kExactThreads = 2;

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

const std::string& variant_file(const Bundle& bundle, const std::string& graph) {
  std::vector<std::string> backends;
  std::set<std::string> precisions;
  for (const Variant& variant : bundle.manifest().graph(graph).variants) {
    if (variant.backend == kBackend) return variant.file;
    backends.push_back(variant.backend);
    precisions.insert(variant.precision);
  }
  throw BundleError("the bundle's graph " + text::python_repr(graph) + " is " +
                        text::join({precisions.begin(), precisions.end()}, " and ") + ", for " + text::join(backends, ", "),
                    std::string("a variant for ") + kBackend + ": the CPU runs fp32 and fp16 graphs",
                    "use a GPU backend, or export the bundle with --precision fp16 or fp32");
}

}  // namespace

Engines::Engines(std::shared_ptr<const Bundle> bundle, const EditorOptions& options)
    : bundle_(std::move(bundle)),
      threads_(options.threads > 0 ? options.threads : std::min(usable_cpus(), kExactThreads)),
      uses_cuda_(options.device == "cuda") {
  if (options.device != "cpu" && !uses_cuda_) {
    throw InputError("the device is " + text::python_repr(options.device), "one of cpu, cuda", "choose one of those",
                     "device", "device_unknown");
  }
  runtime_ = OnnxRuntime::load(options.onnxruntime);
  struct Task {
    std::string graph;
    std::packaged_task<Loaded()> make;
  };
  const auto tasks = std::make_shared<std::vector<Task>>();
  auto read_weights = std::make_shared<std::packaged_task<std::shared_ptr<const Bytes>()>>([this] {
    return std::make_shared<const Bytes>(bundle_->has(kWeightsFile) ? bundle_->read(kWeightsFile) : Bytes());
  });
  weights_ = read_weights->get_future().share();
  for (const char* graph : kLoadOrder) {
    if (find(bundle_->manifest().graphs, graph) == nullptr) continue;
    tasks->push_back({graph, std::packaged_task<Loaded()>([this, graph] { return make_session(graph); })});
    sessions_[graph] = tasks->back().make.get_future().share();
  }
  const auto next = std::make_shared<std::atomic<std::size_t>>(0);
  const auto left = std::make_shared<std::atomic<std::size_t>>(kNumLoaders);
  for (std::size_t k = 0; k < kNumLoaders; ++k) {
    loaders_.emplace_back([this, k, tasks, next, left, read_weights] {
      if (k == 0) (*read_weights)();
      for (std::size_t task = (*next)++; task < tasks->size(); task = (*next)++) (*tasks)[task].make();
      // Sessions keep their own copy of what they need: once all are made, the file's bytes are freed.
      if (--*left == 0) weights_ = {};
    });
  }
}

Engines::~Engines() {
  for (std::thread& loader : loaders_) loader.join();
}

Arrays Engines::run(const std::string& graph, const ArrayViews& inputs, const ArrayViews& into) const {
  return sessions_.at(graph).get()->run(inputs, into);
}

void Engines::wait() const {
  for (const auto& [graph, session] : sessions_) session.get();
}

Engines::Loaded Engines::make_session(const std::string& graph) const {
  const Bytes model = bundle_->read(variant_file(*bundle_, graph));
  const std::shared_ptr<const Bytes> weights = weights_.get();
  SessionOptions options;
  options.threads = is_one_of(graph, {"scene", "step", "decode"}) ? threads_ : 1;
  const bool is_image_graph = is_one_of(graph, {"window", "paste", "paste16"});
  options.uses_cuda = uses_cuda_ && !is_image_graph;
  // The planes of a large photo are hundreds of megabytes, which an arena would keep after the run.
  options.keeps_memory = !is_image_graph;
  return std::make_shared<const Session>(runtime_, graph, model, *weights, options);
}

}  // namespace alterbute
