#include "call.h"

#include "settings.h"

#include <cstdarg>
#include <cstdio>

namespace standin {
namespace {

constexpr int kBuiltFor = 13000;

// The captures that forbid this thread an unsafe call, by the rules of cudaThreadExchangeStreamCaptureMode.
std::vector<Capture*> forbidding() {
    std::vector<Capture*> found;
    for (const auto& capture : process().captures) {
        const bool own = capture->thread == thread_number() && capture->mode != cudaStreamCaptureModeRelaxed;
        const bool global = capture->mode == cudaStreamCaptureModeGlobal && thread_mode() == cudaStreamCaptureModeGlobal;
        if (thread_mode() != cudaStreamCaptureModeRelaxed && (own || global)) found.push_back(capture.get());
    }
    return found;
}

}  // namespace

cudaError_t& last_error() {
    thread_local cudaError_t last = cudaSuccess;
    return last;
}

void invalidate(Capture* capture) { capture->invalid = true; }

void write_line(int stream, int capture, int error, const std::string& name, const std::string& arguments) {
    static FILE* const file = settings().log.empty() ? nullptr : std::fopen(settings().log.c_str(), "a");
    if (!file) return;
    std::fprintf(file, "%d\t%d\t%d\t%d\t%d\t%s\t%s\n", thread_number(), current_device(), stream, capture, error, name.c_str(),
                 arguments.c_str());
    std::fflush(file);
}

Call::Call(const char* name, Rule rule, const char* group) : lock_(process().lock), name_(name) {
    if (rule == Rule::kAlways) return;
    if (settings().driver < kBuiltFor) {
        fail(cudaErrorInsufficientDriver);
        return;
    }
    if (settings().devices == 0) {
        fail(cudaErrorNoDevice);
        return;
    }
    if (process().lost != cudaSuccess) {
        fail(process().lost);
        return;
    }
    const cudaError_t fault = next_fault(name, group);
    const std::string kind(group);
    if (is_fatal(fault) && (kind == "kernel" || kind == "graph")) {
        // A kernel runs after its launch has returned: the calls that follow see its fault.
        later_ = true;
        later_error_ = fault;
    } else if (fault != cudaSuccess) {
        if (is_fatal(fault)) process().lost = fault;
        fail(fault);
        return;
    }
    if (rule == Rule::kUnsafe) forbid();
    if (rule == Rule::kDeviceWait && !process().captures.empty()) {
        for (const auto& capture : process().captures) invalidate(capture.get());
        fail(cudaErrorStreamCaptureUnsupported);
    }
}

Call::~Call() {
    if (later_) process().lost = later_error_;
    write_line(stream_, capture_, error_, name_, arguments_);
}

cudaError_t Call::fail(cudaError_t error) {
    error_ = error;
    if (error != cudaSuccess) last_error() = error;
    return error;
}

void Call::forbid() {
    const auto captures = forbidding();
    for (Capture* capture : captures) invalidate(capture);
    if (!captures.empty()) fail(cudaErrorStreamCaptureUnsupported);
}

Stream* Call::use(cudaStream_t handle, bool launch) {
    Stream* const stream = find_stream(handle);
    if (!stream || (launch && stream->id > 0 && stream->device != current_device())) {
        fail(cudaErrorInvalidResourceHandle);
        return nullptr;
    }
    stream_ = stream->id;
    if (is_legacy(stream)) {
        for (const auto& capture : process().captures) {
            if (!capture->origin->blocking) continue;
            invalidate(capture.get());
            fail(cudaErrorStreamCaptureImplicit);
            return nullptr;
        }
    }
    if (stream->capture) {
        capture_ = stream->capture->id;
        if (stream->capture->invalid) {
            fail(cudaErrorStreamCaptureInvalidated);
            return nullptr;
        }
        if (stream != stream->capture->origin) stream->joined = false;
    }
    return stream;
}

Stream* Call::wait_for(cudaStream_t handle) {
    Stream* const stream = use(handle);
    if (!stream) return nullptr;
    if (stream->capture) {
        invalidate(stream->capture);
        fail(cudaErrorStreamCaptureUnsupported);
        return nullptr;
    }
    // CUDA publishes no list of unsafe calls; queries of events are known to be refused, so waits are refused here too.
    forbid();
    return refused() ? nullptr : stream;
}

cudaError_t Call::enqueue(Stream* stream, Node work) {
    if (!stream->capture) return fail(work());
    stream->capture->nodes.push_back(std::move(work));
    return cudaSuccess;
}

void Call::say(const char* format, ...) {
    char text[512];
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    arguments_ = text;
}

}  // namespace standin
