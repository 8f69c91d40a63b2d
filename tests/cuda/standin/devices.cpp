// Devices, versions and error names, and the functions that only the stand-in has (standin.h).
#include "call.h"
#include "settings.h"
#include "standin.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstring>

using namespace standin;

namespace {

constexpr int kRuntime = 13000;

bool known(int device) { return device >= 0 && device < settings().devices; }

const char* name_of(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "cudaSuccess";
        case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
        case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
        case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
        case cudaErrorNoDevice: return "cudaErrorNoDevice";
        case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
        case cudaErrorInvalidResourceHandle: return "cudaErrorInvalidResourceHandle";
        case cudaErrorIllegalState: return "cudaErrorIllegalState";
        case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
        case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
        case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
        case cudaErrorStreamCaptureInvalidated: return "cudaErrorStreamCaptureInvalidated";
        case cudaErrorStreamCaptureUnjoined: return "cudaErrorStreamCaptureUnjoined";
        case cudaErrorStreamCaptureIsolation: return "cudaErrorStreamCaptureIsolation";
        case cudaErrorStreamCaptureImplicit: return "cudaErrorStreamCaptureImplicit";
        case cudaErrorCapturedEvent: return "cudaErrorCapturedEvent";
        default: return "cudaErrorUnknown";
    }
}

const char* text_of(cudaError_t error) {
    switch (error) {
        case cudaErrorMemoryAllocation: return "out of memory";
        case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
        case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
        case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
        case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
        case cudaErrorNoDevice: return "no CUDA-capable device is detected";
        default: return name_of(error);
    }
}

void* do_nothing() { return nullptr; }

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
    Call call("cudaGetDeviceCount", Rule::kSafe);
    *count = call.refused() ? 0 : settings().devices;
    return call.error();
}

cudaError_t cudaSetDevice(int device) {
    Call call("cudaSetDevice", Rule::kSafe);
    call.say("device=%d", device);
    if (call.refused()) return call.error();
    if (!known(device)) return call.fail(cudaErrorInvalidDevice);
    current_device() = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
    Call call("cudaGetDevice", Rule::kSafe);
    if (!call.refused()) *device = current_device();
    return call.error();
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    Call call("cudaGetDeviceProperties", Rule::kSafe);
    if (call.refused()) return call.error();
    if (!known(device)) return call.fail(cudaErrorInvalidDevice);
    *properties = {};
    std::snprintf(properties->name, sizeof properties->name, "Stand-in of an NVIDIA H100");
    properties->totalGlobalMem = settings().memory;
    properties->major = settings().capability / 10;
    properties->minor = settings().capability % 10;
    properties->multiProcessorCount = 132;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
    properties->maxThreadsDim[2] = 64;
    properties->maxGridSize[0] = 2147483647;
    properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->maxBlocksPerMultiProcessor = 32;
    properties->sharedMemPerBlock = 49152;
    properties->sharedMemPerBlockOptin = 232448;
    properties->sharedMemPerMultiprocessor = 233472;
    properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
    properties->totalConstMem = 65536;
    properties->l2CacheSize = 50 << 20;
    properties->concurrentKernels = properties->unifiedAddressing = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    Call call("cudaDeviceGetAttribute", Rule::kSafe);
    if (call.refused()) return call.error();
    if (!known(device)) return call.fail(cudaErrorInvalidDevice);
    switch (attribute) {
        case cudaDevAttrComputeCapabilityMajor: *value = settings().capability / 10; break;
        case cudaDevAttrComputeCapabilityMinor: *value = settings().capability % 10; break;
        case cudaDevAttrMultiProcessorCount: *value = 132; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = 49152; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 232448; break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = 233472; break;
        case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
        case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 2048; break;
        case cudaDevAttrWarpSize: *value = 32; break;
        default: *value = 1;
    }
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
    *version = settings().driver;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = kRuntime;
    return cudaSuccess;
}

cudaError_t cudaPeekAtLastError() {
    Call call("cudaPeekAtLastError", Rule::kAlways);
    return process().lost != cudaSuccess ? process().lost : last_error();
}

cudaError_t cudaGetLastError() {
    Call call("cudaGetLastError", Rule::kAlways);
    const cudaError_t error = process().lost != cudaSuccess ? process().lost : last_error();
    last_error() = cudaSuccess;
    return error;
}

const char* cudaGetErrorName(cudaError_t error) { return name_of(error); }
const char* cudaGetErrorString(cudaError_t error) { return text_of(error); }

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
    Call call("cudaGetDriverEntryPointByVersion", Rule::kSafe);
    call.say("%s", symbol);
    if (call.refused()) return call.error();
    void* const found = dlsym(RTLD_DEFAULT, symbol);
    *function = found ? found : reinterpret_cast<void*>(do_nothing);
    if (result) *result = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}

void standin_mark(const char* text) {
    const std::lock_guard<std::recursive_mutex> lock(process().lock);
    write_line(0, 0, 0, "MARK", text);
}

int standin_call(const char* name, void* stream, int kind, const char* arguments) {
    Call call(name, kind == STANDIN_ALLOCATES ? Rule::kUnsafe : Rule::kSafe, kind == STANDIN_LAUNCHES ? "kernel" : "");
    call.say("%s", arguments);
    if (!call.refused() && kind == STANDIN_LAUNCHES) call.use(static_cast<cudaStream_t>(stream), true);
    return call.error();
}

void standin_alive(long* counts) {
    const std::lock_guard<std::recursive_mutex> lock(process().lock);
    long device = 0, bytes = 0, pinned = 0;
    for (const auto& [address, memory] : process().memory) {
        (memory.pinned ? pinned : device) += 1;
        if (!memory.pinned) bytes += static_cast<long>(memory.bytes);
    }
    const long all[] = {device, bytes, pinned, static_cast<long>(process().streams.size()),
                        static_cast<long>(process().events.size()), static_cast<long>(process().graphs.size()),
                        static_cast<long>(process().executables.size())};
    std::memcpy(counts, all, sizeof all);
}

__attribute__((destructor)) void standin_end() {
    long counts[7];
    standin_alive(counts);
    char text[256];
    std::snprintf(text, sizeof text, "allocations=%ld bytes=%ld pinned=%ld streams=%ld events=%ld graphs=%ld executables=%ld",
                  counts[0], counts[1], counts[2], counts[3], counts[4], counts[5], counts[6]);
    write_line(0, 0, 0, "END", text);
}

}
