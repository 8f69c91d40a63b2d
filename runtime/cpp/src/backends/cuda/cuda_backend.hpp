// A GPU for one editor: its thread, its stream, and the step graph's state on it.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "backends/cuda/capture_guard.hpp"
#include "backends/cuda/cuda_device.hpp"
#include "backends/cuda/cuda_steps.hpp"
#include "backends/cuda/device_thread.hpp"
#include "backends/onnxruntime.hpp"
#include "backends/step_state.hpp"

namespace alterbute {

// For tests: functions over the host's memory, with which sessions run on the CPU provider over bound memory. Null: a
// GPU.
inline const CudaFunctions* host_functions = nullptr;

class CudaBackend {
 public:
  // Loads the CUDA provider. Throws EngineError: a library is missing; or DeviceError: there is no such GPU.
  CudaBackend(const OnnxRuntime& runtime, int index, void* stream);
  ~CudaBackend();
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  // For a session's options.
  std::optional<CudaProvider> provider(bool has_graphs) const;

  // Makes a session, on the calling thread. Throws DeviceError: it cannot be loaded.
  template <typename Call>
  auto load(Call call) -> decltype(call());

  // Runs a graph once and waits for its outputs. Throws DeviceError.
  Arrays run(const Session& session, const ArrayViews& inputs, const ArrayViews& into);

  // The state of the editor's slots, allocated at the first call. It belongs to one call of an editor at a time: others
  // wait here. Throws EngineError: a callback asked for it, of a call that has it.
  std::unique_ptr<StepState> open_step_state(const StepGraphs& graphs);
  // Captures every bucket.
  void warm_up(const StepGraphs& graphs);

  // Frees the device's memory, and whatever `free_sessions` frees, on the device's thread; false when the device is lost,
  // and nothing was freed: ONNX Runtime ends the process when it frees a session of a lost device.
  template <typename Call>
  bool close(Call free_sessions) noexcept;

 private:
  class Hold;
  class Turn;

  // Runs a call on the device's thread, and adds the time to this thread's seconds in graphs. Throws DeviceError for
  // what ONNX Runtime throws.
  template <typename Call>
  auto on_device(Call call) -> decltype(call());
  CudaSteps& steps(const StepGraphs& graphs);

  MemoryKind kind_;
  CudaDevice device_;
  std::mutex turn_;
  std::thread::id owner_;  // of the turn
  std::mutex owner_mutex_;
  std::unique_ptr<CudaSteps> steps_;
  DeviceThread thread_;
};

template <typename Call>
auto CudaBackend::load(Call call) -> decltype(call()) {
  const auto lock = lock_for_use();
  try {
    return call();
  } catch (const EngineError& fault) {
    throw device_.explain(fault);
  }
}

template <typename Call>
bool CudaBackend::close(Call free_sessions) noexcept {
  try {
    thread_.run([&] {
      const auto lock = lock_for_use();
      device_.wait();
      if (steps_ != nullptr) steps_->close();
      steps_.reset();
      free_sessions();
      device_.close();
    });
    return true;
  } catch (...) {
    static_cast<void>(steps_.release());
    return false;
  }
}

template <typename Call>
auto CudaBackend::on_device(Call call) -> decltype(call()) {
  struct Watch {
    std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
    ~Watch() { add_engine_seconds(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()); }
  } watch;
  return thread_.run([&] {
    device_.check_is_alive();
    try {
      return call();
    } catch (const DeviceError&) {
      throw;
    } catch (const EngineError& fault) {
      throw device_.explain(fault);
    }
  });
}

}  // namespace alterbute
