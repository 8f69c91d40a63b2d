// Stream capture and graphs. A graph holds the copies and memory sets of its capture and does them at each launch.
#include "call.h"

using namespace standin;

namespace {

void finish(Capture* capture) {
    for (Stream* stream : process().streams)
        if (stream->capture == capture) stream->capture = nullptr;
    auto& all = process().captures;
    for (auto found = all.begin(); found != all.end(); ++found) {
        if (found->get() != capture) continue;
        all.erase(found);
        return;
    }
}

bool joined(const Capture* capture) {
    for (const Stream* stream : process().streams)
        if (stream->capture == capture && stream != capture->origin && !stream->joined) return false;
    return true;
}

}  // namespace

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
    Call call("cudaStreamBeginCapture", Rule::kSafe);
    call.say("mode=%s", mode == cudaStreamCaptureModeGlobal ? "global"
                        : mode == cudaStreamCaptureModeThreadLocal ? "thread" : "relaxed");
    if (call.refused()) return call.error();
    Stream* const stream = call.use(handle);
    if (!stream) return call.error();
    if (is_legacy(stream)) return call.fail(cudaErrorStreamCaptureUnsupported);
    if (stream->capture) return call.fail(cudaErrorIllegalState);
    process().captures.push_back(std::make_unique<Capture>(Capture{process().next_id++, thread_number(), mode, stream}));
    stream->capture = process().captures.back().get();
    call.set_capture(stream->capture->id);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* result) {
    Call call("cudaStreamEndCapture", Rule::kSafe);
    *result = nullptr;
    if (call.refused()) return call.error();
    Stream* const stream = find_stream(handle);
    if (!stream || !stream->capture) return call.fail(cudaErrorIllegalState);
    Capture* const capture = stream->capture;
    call.set_stream(stream->id);
    call.set_capture(capture->id);
    if (stream != capture->origin) return call.fail(cudaErrorStreamCaptureUnmatched);
    if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != thread_number())
        return call.fail(cudaErrorStreamCaptureWrongThread);
    if (capture->invalid || !joined(capture)) {
        call.fail(capture->invalid ? cudaErrorStreamCaptureInvalidated : cudaErrorStreamCaptureUnjoined);
        finish(capture);
        return call.error();
    }
    auto* const graph = new Graph{capture->id, std::move(capture->nodes)};
    process().graphs.insert(graph);
    *result = reinterpret_cast<cudaGraph_t>(graph);
    finish(capture);
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
    Call call("cudaStreamIsCapturing", Rule::kSafe);
    if (call.refused()) return call.error();
    const Stream* const stream = find_stream(handle);
    if (!stream) return call.fail(cudaErrorInvalidResourceHandle);
    *status = !stream->capture ? cudaStreamCaptureStatusNone
              : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
    Call call("cudaThreadExchangeStreamCaptureMode", Rule::kSafe);
    if (!call.refused()) std::swap(*mode, thread_mode());
    return call.error();
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* result, cudaGraph_t handle, unsigned long long) {
    Call call("cudaGraphInstantiate", Rule::kSafe);
    if (call.refused()) return call.error();
    auto* const graph = reinterpret_cast<Graph*>(handle);
    if (!process().graphs.count(graph)) return call.fail(cudaErrorInvalidValue);
    call.say("of=%d", graph->capture);
    auto* const executable = new Graph(*graph);
    process().executables.insert(executable);
    *result = reinterpret_cast<cudaGraphExec_t>(executable);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream_handle) {
    Call call("cudaGraphLaunch", Rule::kSafe, "graph");
    if (call.refused()) return call.error();
    auto* const executable = reinterpret_cast<Graph*>(handle);
    if (!process().executables.count(executable)) return call.fail(cudaErrorInvalidValue);
    call.say("of=%d", executable->capture);
    Stream* const stream = call.use(stream_handle, true);
    if (!stream) return call.error();
    // Work of a graph that reaches freed memory is an illegal access: the device is lost.
    for (const Node& node : executable->nodes)
        if (call.enqueue(stream, node) != cudaSuccess) return call.fail(process().lost = cudaErrorIllegalAddress);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t handle) {
    Call call("cudaGraphDestroy", Rule::kSafe);
    if (call.refused()) return call.error();
    auto* const graph = reinterpret_cast<Graph*>(handle);
    if (!process().graphs.erase(graph)) return call.fail(cudaErrorInvalidValue);
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t handle) {
    Call call("cudaGraphExecDestroy", Rule::kSafe);
    if (call.refused()) return call.error();
    auto* const executable = reinterpret_cast<Graph*>(handle);
    if (!process().executables.erase(executable)) return call.fail(cudaErrorInvalidValue);
    delete executable;
    return cudaSuccess;
}

}
