// One call of the CUDA runtime: the lock, the rules, the injected faults and the line of the log.
#pragma once

#include "process.h"

#include <string>

namespace standin {

enum class Rule {
    kAlways,        // answers even when the device is lost or the driver is too old
    kSafe,          // may be called while a stream is captured
    kUnsafe,        // refused while a capture forbids it
    kDeviceWait,    // refused while any stream of the process is captured
};

class Call {
  public:
    // `group` counts for injected faults beside the name: "allocation", "pinned", "kernel" or "graph".
    Call(const char* name, Rule rule, const char* group = "");
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    // Whether the call must return `error()` at once.
    bool refused() const { return error_ != cudaSuccess; }
    cudaError_t error() const { return error_; }

    // Sets the call's error, which becomes the thread's last one, and returns it.
    cudaError_t fail(cudaError_t error);

    // Names the stream that the call works on; null when it fails: an unknown handle, a device that is not the current one
    // (`launch`), or the legacy stream while a blocking stream is captured.
    Stream* use(cudaStream_t handle, bool launch = false);

    // As `use`, for a call that waits for the stream.
    Stream* wait_for(cudaStream_t handle);

    // Does the work now, or keeps it for the graph's launches when the stream is captured.
    cudaError_t enqueue(Stream* stream, Node work);

    // The arguments as the log shows them.
    void say(const char* format, ...) __attribute__((format(printf, 2, 3)));

    void set_capture(int id) { capture_ = id; }
    void set_stream(int id) { stream_ = id; }

  private:
    void forbid();
    std::lock_guard<std::recursive_mutex> lock_;
    std::string name_, arguments_;
    cudaError_t error_ = cudaSuccess;
    int stream_ = 0, capture_ = 0;
    bool later_ = false;            // the device is lost after this call
    cudaError_t later_error_ = cudaSuccess;
};

// The thread's last error, which cudaGetLastError clears.
cudaError_t& last_error();

// Makes the capture fail at its end.
void invalidate(Capture* capture);

// Writes one line of the log: thread, its device, stream, capture, error, name, arguments, separated by tabs.
void write_line(int stream, int capture, int error, const std::string& name, const std::string& arguments);

// The fault for this call, counted by name and by group (faults.cpp); cudaSuccess: none.
cudaError_t next_fault(const std::string& name, const std::string& group);

// Whether a context is lost after this error.
bool is_fatal(cudaError_t error);

}  // namespace standin
