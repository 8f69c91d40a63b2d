// Streams and events. Work is done when it is enqueued, so nothing is ever waited for; only the rules are kept.
#include "call.h"

using namespace standin;

namespace {

cudaError_t create_stream(const char* name, cudaStream_t* handle, unsigned flags) {
    Call call(name, Rule::kSafe);
    if (call.refused()) return call.error();
    auto* const stream = new Stream{process().next_id++, current_device(), (flags & cudaStreamNonBlocking) == 0};
    process().streams.insert(stream);
    call.set_stream(stream->id);
    *handle = reinterpret_cast<cudaStream_t>(stream);
    return cudaSuccess;
}

cudaError_t create_event(const char* name, cudaEvent_t* handle) {
    Call call(name, Rule::kSafe);
    if (call.refused()) return call.error();
    auto* const event = new Event{current_device()};
    process().events.insert(event);
    *handle = reinterpret_cast<cudaEvent_t>(event);
    return cudaSuccess;
}

Event* find_event(Call& call, cudaEvent_t handle) {
    const auto found = process().events.find(reinterpret_cast<Event*>(handle));
    if (found != process().events.end()) return *found;
    call.fail(cudaErrorInvalidResourceHandle);
    return nullptr;
}

cudaError_t record(const char* name, cudaEvent_t handle, cudaStream_t stream_handle) {
    Call call(name, Rule::kSafe);
    if (call.refused()) return call.error();
    Event* const event = find_event(call, handle);
    Stream* const stream = event ? call.use(stream_handle) : nullptr;
    if (!stream) return call.error();
    if (stream->id > 0 && stream->device != event->device) return call.fail(cudaErrorInvalidResourceHandle);
    event->recorded = true;
    event->capture = stream->capture ? stream->capture->id : 0;
    event->stream = stream;
    return cudaSuccess;
}

// A wait or a query of an event: not of one that was recorded in a capture.
cudaError_t ask(const char* name, cudaEvent_t handle) {
    Call call(name, Rule::kUnsafe);
    if (call.refused()) return call.error();
    const Event* const event = find_event(call, handle);
    if (!event) return call.error();
    if (!event->capture) return cudaSuccess;
    for (const auto& capture : process().captures)
        if (capture->id == event->capture) invalidate(capture.get());
    return call.fail(cudaErrorCapturedEvent);
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return create_stream("cudaStreamCreate", stream, 0); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    return create_stream("cudaStreamCreateWithFlags", stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
    Call call("cudaStreamDestroy", Rule::kSafe);
    if (call.refused()) return call.error();
    Stream* const stream = call.use(handle);
    if (!stream || stream->id <= 0) return call.fail(cudaErrorInvalidResourceHandle);
    if (stream->capture) invalidate(stream->capture);
    process().streams.erase(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    Call call("cudaStreamSynchronize", Rule::kSafe);
    if (!call.refused()) call.wait_for(stream);
    return call.error();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    Call call("cudaStreamQuery", Rule::kSafe);
    if (!call.refused()) call.wait_for(stream);
    return call.error();
}

cudaError_t cudaDeviceSynchronize() { return Call("cudaDeviceSynchronize", Rule::kDeviceWait).error(); }

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned) {
    Call call("cudaStreamWaitEvent", Rule::kSafe);
    if (call.refused()) return call.error();
    const Event* const event = find_event(call, event_handle);
    Stream* const stream = event ? call.use(handle) : nullptr;
    if (!stream || !event->recorded) return call.error();
    const int own = stream->capture ? stream->capture->id : 0;
    if (own == event->capture) {
        if (own && stream == stream->capture->origin) event->stream->joined = true;
        return cudaSuccess;
    }
    if (!own) {
        // A stream that waits for captured work joins the capture.
        for (const auto& capture : process().captures) {
            if (capture->id != event->capture) continue;
            stream->capture = capture.get();
            stream->joined = false;
            call.set_capture(capture->id);
            return cudaSuccess;
        }
        return cudaSuccess;
    }
    invalidate(stream->capture);
    return call.fail(cudaErrorStreamCaptureIsolation);
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return create_event("cudaEventCreate", event); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return create_event("cudaEventCreateWithFlags", event); }

cudaError_t cudaEventDestroy(cudaEvent_t handle) {
    Call call("cudaEventDestroy", Rule::kSafe);
    if (call.refused()) return call.error();
    Event* const event = find_event(call, handle);
    if (!event) return call.error();
    process().events.erase(event);
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return record("cudaEventRecord", event, stream); }

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
    return record("cudaEventRecordWithFlags", event, stream);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) { return ask("cudaEventSynchronize", event); }
cudaError_t cudaEventQuery(cudaEvent_t event) { return ask("cudaEventQuery", event); }

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
    Call call("cudaEventElapsedTime", Rule::kSafe);
    if (!call.refused()) *milliseconds = 1.0f;
    return call.error();
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
    Call call("cudaLaunchHostFunc", Rule::kSafe);
    if (call.refused()) return call.error();
    Stream* const stream = call.use(handle);
    if (!stream) return call.error();
    return call.enqueue(stream, [=] {
        function(data);
        return cudaSuccess;
    });
}

}
