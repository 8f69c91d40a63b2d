#include "backends/cuda/cuda_backend.hpp"

#include "backends/cuda/buckets.hpp"

namespace alterbute {
namespace {

CudaFunctions load_functions(const OnnxRuntime& runtime) {
  if (host_functions != nullptr) return *host_functions;
  load_cuda_provider(runtime.api());
  return find_cuda_functions();
}

}  // namespace

// The right of one call to the state of the slots.
class CudaBackend::Hold {
 public:
  explicit Hold(CudaBackend& backend) : backend_(backend) {
    if (is_owner()) {
      throw EngineError("a callback of an edit started another edit of the same editor", "an edit after the other one",
                        "start it when the first call has returned, or on another thread");
    }
    turn_ = std::unique_lock<std::mutex>(backend_.turn_);
    set_owner(std::this_thread::get_id());
  }
  ~Hold() { set_owner({}); }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

 private:
  bool is_owner() const {
    const std::lock_guard<std::mutex> lock(backend_.owner_mutex_);
    return backend_.owner_ == std::this_thread::get_id();
  }
  void set_owner(std::thread::id owner) {
    const std::lock_guard<std::mutex> lock(backend_.owner_mutex_);
    backend_.owner_ = owner;
  }

  CudaBackend& backend_;
  std::unique_lock<std::mutex> turn_;
};

class CudaBackend::Turn : public StepState {
 public:
  Turn(CudaBackend& backend, CudaSteps& steps, std::unique_ptr<Hold> hold)
      : backend_(backend), steps_(steps), hold_(std::move(hold)) {
    steps_.restart();
  }

  LaunchShape largest() const override { return largest_of(steps_.buckets()); }
  LaunchShape launch_shape(std::int64_t slots, std::int64_t rows) const override {
    return find_bucket(steps_.buckets(), slots, rows);
  }
  void write_slot(std::int64_t slot, const float* state) override { steps_.write_slot(slot, state); }
  void launch(const ArrayViews& inputs, const std::set<std::string>& changed) override {
    backend_.on_device([&] { steps_.launch(inputs, changed); });
  }
  // Latents are checked when they are read.
  bool is_finite(std::int64_t) const override { return true; }
  void flip() override { steps_.flip(); }
  void read_latent(std::int64_t slot, float* latent) override {
    backend_.on_device([&] { steps_.read_latent(slot, latent); });
  }

 private:
  CudaBackend& backend_;
  CudaSteps& steps_;
  std::unique_ptr<Hold> hold_;
};

CudaBackend::CudaBackend(const OnnxRuntime& runtime, int index, void* stream)
    : kind_(host_functions == nullptr ? MemoryKind{"Cuda", index} : MemoryKind{"Cpu", 0}),
      device_(load_functions(runtime), index, stream) {
  thread_.run([this] {
    const auto lock = lock_for_use();
    device_.use();
  });
}

CudaBackend::~CudaBackend() = default;

std::optional<CudaProvider> CudaBackend::provider(bool has_graphs) const {
  if (host_functions != nullptr) return std::nullopt;
  return CudaProvider{device_.index(), device_.stream(), has_graphs};
}

Arrays CudaBackend::run(const Session& session, const ArrayViews& inputs, const ArrayViews& into) {
  return on_device([&] {
    const auto lock = lock_for_use();
    return session.run(inputs, into);
  });
}

std::unique_ptr<StepState> CudaBackend::open_step_state(const StepGraphs& graphs) {
  auto hold = std::make_unique<Hold>(*this);
  CudaSteps& opened = steps(graphs);
  return std::make_unique<Turn>(*this, opened, std::move(hold));
}

void CudaBackend::warm_up(const StepGraphs& graphs) {
  const Hold hold(*this);
  CudaSteps& opened = steps(graphs);
  on_device([&] { opened.warm_up(); });
}

CudaSteps& CudaBackend::steps(const StepGraphs& graphs) {
  if (steps_ == nullptr) {
    on_device([&] {
      const auto lock = lock_for_use();
      steps_ = std::make_unique<CudaSteps>(device_, graphs, kind_);
    });
  }
  return *steps_;
}

}  // namespace alterbute
