// The one thread that calls a GPU for an editor. ONNX Runtime keeps captured CUDA graphs for each thread that runs a
// session: from several threads each would capture every graph again.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace alterbute {

class DeviceThread {
 public:
  DeviceThread();
  ~DeviceThread();
  DeviceThread(const DeviceThread&) = delete;
  DeviceThread& operator=(const DeviceThread&) = delete;

  // Runs a call on the thread, in the order in which calls arrive, and returns or throws what it does.
  template <typename Call>
  auto run(Call call) -> decltype(call()) {
    // Shared: the thread may still hold the task when its result is here.
    const auto task = std::make_shared<std::packaged_task<decltype(call())()>>(std::move(call));
    auto result = task->get_future();
    push([task] { (*task)(); });
    return result.get();
  }

 private:
  void push(std::function<void()> task);
  void serve();

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<std::function<void()>> tasks_;
  bool is_closing_ = false;
  std::thread thread_;  // last: it uses what is above
};

}  // namespace alterbute
