#include "backends/cuda/cuda_steps.hpp"

#include <algorithm>
#include <cstring>

#include "backends/cuda/buckets.hpp"
#include "backends/cuda/capture_guard.hpp"
#include "backends/ort_objects.hpp"

namespace alterbute {
namespace {

constexpr const char* kState = "state";
// Inputs that change at every step are small and get a deep ring, so that no edit of ordinary length waits for it.
// Inputs that change at an admission are large and rare.
constexpr std::size_t kSmallBytes = 64U << 10;
constexpr std::size_t kSmallDepth = 64, kLargeDepth = 3;

bool has(const std::vector<Edge>& edges, const std::string& name) {
  return std::any_of(edges.begin(), edges.end(), [&](const Edge& edge) { return edge.name == name; });
}

}  // namespace

CudaSteps::CudaSteps(CudaDevice& device, const StepGraphs& graphs, const MemoryKind& kind)
    : device_(device),
      graphs_(graphs),
      kind_(kind),
      most_(largest_of(graphs.buckets)),
      slot_bytes_(count_of(graphs.state) * sizeof(float)),
      latent_bytes_(slot_bytes_ / static_cast<std::size_t>(graphs.state[0])) {
  const std::vector<Edge> nothing;
  const std::vector<Edge>& made = graphs.prologue == nullptr ? nothing : graphs.prologue->outputs();
  for (const Edge& edge : graphs.step->inputs())
    if (edge.name != kState && !has(made, edge.name)) uploaded_.push_back(edge);
  made_ = made;
  for (const Edge& edge : graphs.prologue == nullptr ? nothing : graphs.prologue->inputs()) {
    prologue_inputs_.insert(edge.name);
    if (!has(uploaded_, edge.name)) uploaded_.push_back(edge);
  }
  try {
    allocate();
  } catch (const EngineError&) {
    try {
      close();
    } catch (const DeviceError&) {
      // Nothing can be freed on a device that is lost; what is thrown below says that it is.
    }
    throw;
  }
}

void CudaSteps::allocate() {
  std::size_t small = 0, large = 0;
  for (const Edge& edge : uploaded_) {
    const std::size_t bytes = bytes_of(edge, most_);
    buffers_[edge.name] = device_.allocate(bytes);
    (bytes <= kSmallBytes ? small : large) += bytes;
  }
  for (const Edge& edge : made_) buffers_[edge.name] = device_.allocate(bytes_of(edge, most_));
  const auto slots = static_cast<std::size_t>(most_.slots);
  for (void*& state : states_) state = device_.allocate(slots * slot_bytes_);
  pinned_ = device_.allocate_pinned(latent_bytes_);
  small_ = std::make_unique<UploadRing>(device_, small, uploaded_.size(), kSmallDepth);
  large_ = std::make_unique<UploadRing>(device_, large + slots * slot_bytes_, uploaded_.size() + slots, kLargeDepth);
}

void CudaSteps::restart() {
  pending_.clear();
  last_.reset();
}

void CudaSteps::write_slot(std::int64_t slot, const float* state) {
  pending_[slot].assign(state, state + slot_bytes_ / sizeof(float));
}

void CudaSteps::launch(const ArrayViews& inputs, const std::set<std::string>& changed) {
  const Shape& guidance = inputs.at("guidance").shape;
  const LaunchShape at{guidance[0], guidance[1]};
  const bool is_same = last_ && last_->slots == at.slots && last_->rows == at.rows;
  // What fails below leaves buffers that match no launch: the next launch sends everything.
  last_.reset();
  {
    const auto lock = lock_for_use();
    // Another shape has another stride of guidance and other rows of padding.
    if (upload(inputs, changed, !is_same, at)) run_prologue(at);
  }
  run_step(at);
  last_ = at;
}

bool CudaSteps::upload(const ArrayViews& inputs, const std::set<std::string>& changed, bool sends_all,
                       const LaunchShape& at) {
  std::vector<Upload> small, large;
  bool feeds_prologue = false;
  for (const Edge& edge : uploaded_) {
    if (!sends_all && changed.count(edge.name) == 0) continue;
    const auto input = inputs.find(edge.name);
    const std::size_t bytes = bytes_of(edge, at);
    if (input == inputs.end() || input->second.bytes() != bytes) {
      throw run_fault(graphs_.step->graph(), "the input " + edge.name + " has not the " + std::to_string(bytes) +
                                                 " bytes of the graph's shape");
    }
    const bool is_small = bytes_of(edge, most_) <= kSmallBytes;
    (is_small ? small : large).push_back({buffers_.at(edge.name), input->second.data, bytes});
    feeds_prologue = feeds_prologue || prologue_inputs_.count(edge.name) != 0;
  }
  for (const auto& [slot, state] : pending_) {
    auto* to = static_cast<unsigned char*>(states_[turn_]) + static_cast<std::size_t>(slot) * slot_bytes_;
    large.push_back({to, state.data(), slot_bytes_});
  }
  small_->send(small);
  large_->send(large);
  pending_.clear();
  return feeds_prologue;
}

void CudaSteps::run_prologue(const LaunchShape& at) {
  std::unique_ptr<BoundRun>& run = prologues_[at.rows];
  if (run == nullptr) run = std::make_unique<BoundRun>(*graphs_.prologue, places(at), kind_, -1);
  run->run();
}

void CudaSteps::run_step(const LaunchShape& at) {
  const Key key = {at.slots, at.rows, turn_};
  if (const auto known = launches_.find(key); known != launches_.end()) {
    const auto lock = lock_for_use();
    known->second->run();
    return;
  }
  auto made = std::make_unique<BoundRun>(*graphs_.step, places(at), kind_, ++num_captures_);
  {
    const auto lock = lock_for_capture();
    made->run();
  }
  // A launch that failed is not kept: its number stands for a graph that was never captured.
  launches_.emplace(key, std::move(made));
}

void CudaSteps::read_latent(std::int64_t slot, float* latent) {
  const auto lock = lock_for_use();
  const auto* state = static_cast<const unsigned char*>(states_[turn_]) + static_cast<std::size_t>(slot) * slot_bytes_;
  device_.download(pinned_, state, latent_bytes_);
  device_.wait();
  std::memcpy(latent, pinned_, latent_bytes_);
}

void CudaSteps::warm_up() {
  restart();
  {
    // Indices that an earlier launch left may point outside a smaller one.
    const auto lock = lock_for_use();
    for (const Edge& edge : uploaded_) device_.clear(buffers_.at(edge.name), bytes_of(edge, most_));
  }
  for (const LaunchShape& bucket : graphs_.buckets) {
    if (graphs_.prologue != nullptr) {
      const auto lock = lock_for_use();
      run_prologue(bucket);
    }
    for (int direction = 0; direction < 2; ++direction) {
      run_step(bucket);
      flip();
    }
  }
  const auto lock = lock_for_use();
  device_.wait();
}

void CudaSteps::close() {
  launches_.clear();
  prologues_.clear();
  device_.wait();
  for (const auto& ring : {small_.get(), large_.get()})
    if (ring != nullptr) ring->close();
  if (pinned_ != nullptr) device_.free_pinned(std::exchange(pinned_, nullptr));
  for (void*& state : states_)
    if (state != nullptr) device_.free(std::exchange(state, nullptr));
  for (auto& [name, buffer] : buffers_)
    if (buffer != nullptr) device_.free(std::exchange(buffer, nullptr));
}

Shape CudaSteps::shape_of(const Edge& edge, const LaunchShape& at) const {
  const std::map<std::string, std::int64_t> sizes = {{"B", at.slots},
                                                     {"N", at.rows},
                                                     {"T", graphs_.tokens},
                                                     {"h", graphs_.state[2]},
                                                     {"w", graphs_.state[3]}};
  Shape shape = edge.shape;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] > 0 || edge.axes[axis].empty()) continue;
    const auto size = sizes.find(edge.axes[axis]);
    if (size == sizes.end()) {
      throw EngineError("the step graph's " + edge.name + " has an axis of size '" + edge.axes[axis] + "'",
                        "one of B, N, T, h, w", "export the bundle again");
    }
    shape[axis] = size->second;
  }
  return shape;
}

std::size_t CudaSteps::bytes_of(const Edge& edge, const LaunchShape& at) const {
  return count_of(shape_of(edge, at)) * element_bytes(static_cast<ONNXTensorElementDataType>(edge.type));
}

std::map<std::string, Place> CudaSteps::places(const LaunchShape& at) const {
  std::map<std::string, Place> places;
  for (const std::vector<Edge>* edges : {&uploaded_, &made_})
    for (const Edge& edge : *edges) places[edge.name] = {buffers_.at(edge.name), shape_of(edge, at)};
  Shape state = graphs_.state;
  state.insert(state.begin(), at.slots);
  places[kState] = {states_[turn_], state};
  places[graphs_.step->outputs().at(0).name] = {states_[1 - turn_], state};
  return places;
}

}  // namespace alterbute
