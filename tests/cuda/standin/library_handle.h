// What the stand-ins of cuBLAS, cuBLASLt and cuDNN share: handles that remember their stream, and launches.
#pragma once

#include "standin.h"

namespace standin {

struct Handle {
    void* stream;
    int mode;
};

// Logs a launch on the handle's stream; returns `failed` when the device is lost or a fault is injected.
inline int launch(void* handle, const char* name, const char* arguments, int failed) {
    return standin_call(name, static_cast<Handle*>(handle)->stream, STANDIN_LAUNCHES, arguments) ? failed : 0;
}

// Makes a handle, which needs device memory: returns `failed` where that is not to be had.
inline int create(void** handle, const char* name, int failed) {
    if (standin_call(name, nullptr, STANDIN_ALLOCATES, "")) return failed;
    *handle = new Handle{};
    return 0;
}

inline int destroy(void* handle) {
    delete static_cast<Handle*>(handle);
    return 0;
}

}  // namespace standin
