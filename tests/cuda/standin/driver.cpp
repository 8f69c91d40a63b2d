// libcuda.so.1: the driver's functions that the product and ONNX Runtime's provider call before or beside the runtime.
#include "settings.h"

#include <cstdio>

using standin::settings;

namespace {
constexpr int kNoDevice = 100, kInvalidDevice = 101, kInvalidValue = 1;
constexpr int kMajor = 75, kMinor = 76;
bool known(int device) { return device >= 0 && device < settings().devices; }
}  // namespace

extern "C" {

int cuInit(unsigned) {
    if (settings().init_error) return settings().init_error;
    return settings().devices ? 0 : kNoDevice;
}

int cuDriverGetVersion(int* version) {
    *version = settings().driver;
    return 0;
}

int cuDeviceGetCount(int* count) {
    *count = settings().devices;
    return 0;
}

int cuDeviceGet(int* device, int index) {
    if (!known(index)) return kInvalidDevice;
    *device = index;
    return 0;
}

int cuDeviceGetName(char* name, int size, int device) {
    if (!known(device)) return kInvalidDevice;
    std::snprintf(name, static_cast<std::size_t>(size), "Stand-in of an NVIDIA H100");
    return 0;
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
    if (!known(device)) return kInvalidDevice;
    *value = attribute == kMajor ? settings().capability / 10 : attribute == kMinor ? settings().capability % 10 : 1;
    return 0;
}

int cuDeviceTotalMem_v2(std::size_t* bytes, int device) {
    if (!known(device)) return kInvalidDevice;
    *bytes = settings().memory;
    return 0;
}

int cuGetErrorName(int error, const char** name) {
    *name = error == kNoDevice ? "CUDA_ERROR_NO_DEVICE" : error == kInvalidDevice ? "CUDA_ERROR_INVALID_DEVICE" : "CUDA_ERROR";
    return error ? 0 : kInvalidValue;
}

int cuGetErrorString(int error, const char** text) { return cuGetErrorName(error, text); }

// The provider links against it for kernels of the tensor memory accelerator, which are not run.
int cuTensorMapEncodeTiled() { return 0; }

}
