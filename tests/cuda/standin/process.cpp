#include "process.h"

#include <atomic>

namespace standin {
namespace {

// The default streams: 0 and 1 are the legacy stream, 2 is the thread's own.
Stream legacy{0, 0, true}, per_thread{-1, 0, true};

}  // namespace

Process& process() {
    static Process* const only = new Process;
    return *only;
}

int thread_number() {
    static std::atomic<int> last{0};
    thread_local const int number = ++last;
    return number;
}

int& current_device() {
    thread_local int device = 0;
    return device;
}

cudaStreamCaptureMode& thread_mode() {
    thread_local cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
    return mode;
}

Stream* find_stream(cudaStream_t handle) {
    const auto number = reinterpret_cast<std::uintptr_t>(handle);
    if (number == 0 || number == 1) return &legacy;
    if (number == 2) return &per_thread;
    const auto found = process().streams.find(reinterpret_cast<Stream*>(handle));
    return found == process().streams.end() ? nullptr : *found;
}

bool is_legacy(const Stream* stream) { return stream == &legacy; }

const Allocation* find_memory(const void* address, std::size_t bytes) {
    char* const wanted = static_cast<char*>(const_cast<void*>(address));
    auto found = process().memory.upper_bound(wanted);
    if (found == process().memory.begin()) return nullptr;
    --found;
    return wanted + bytes <= found->first + found->second.bytes ? &found->second : nullptr;
}

}  // namespace standin
