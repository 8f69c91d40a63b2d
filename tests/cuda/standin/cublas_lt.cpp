// cuBLASLt: products that are logged and not computed, of one algorithm without workspace.
#include "library_handle.h"

#include <cstddef>
#include <cstring>

namespace {

constexpr int kAllocationFailed = 3, kExecutionFailed = 13;

// A descriptor of cuBLASLt: its content is not read.
int describe(void** descriptor) {
    *descriptor = new char[64]();
    return 0;
}

int forget(void* descriptor) {
    delete[] static_cast<char*>(descriptor);
    return 0;
}

int launch(const char* name, void* stream) {
    return standin_call(name, stream, STANDIN_LAUNCHES, "") ? kExecutionFailed : 0;
}

}  // namespace

extern "C" {

int cublasLtCreate(void** handle) { return standin::create(handle, "cublasLtCreate", kAllocationFailed); }

int cublasLtDestroy(void* handle) { return standin::destroy(handle); }

int cublasLtMatmul(void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*, void*, void*,
                   void*, const void*, void*, std::size_t, void* stream) {
    return launch("cublasLtMatmul", stream);
}

int cublasLtMatrixTransform(void*, void*, const void*, const void*, void*, const void*, const void*, void*, void*, void*,
                            void* stream) {
    return launch("cublasLtMatrixTransform", stream);
}

// One algorithm, without workspace: cublasLtMatmulHeuristicResult_t begins with 64 bytes of algorithm, then the workspace's
// size, the state (success) and the waves.
int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, void* results, int* found) {
    std::memset(results, 0, 96);
    *found = 1;
    return 0;
}

int cublasLtMatmulAlgoInit(void*, int, int, int, int, int, int, int, void* algorithm) {
    std::memset(algorithm, 0, 64);
    return 0;
}

int cublasLtMatmulDescCreate(void** descriptor, int, int) { return describe(descriptor); }
int cublasLtMatmulPreferenceCreate(void** descriptor) { return describe(descriptor); }
int cublasLtMatrixLayoutCreate(void** descriptor, int, unsigned long, unsigned long, long) { return describe(descriptor); }
int cublasLtMatrixTransformDescCreate(void** descriptor, int) { return describe(descriptor); }
int cublasLtMatmulDescDestroy(void* descriptor) { return forget(descriptor); }
int cublasLtMatmulPreferenceDestroy(void* descriptor) { return forget(descriptor); }
int cublasLtMatrixLayoutDestroy(void* descriptor) { return forget(descriptor); }
int cublasLtMatrixTransformDescDestroy(void* descriptor) { return forget(descriptor); }
int cublasLtMatmulDescSetAttribute(void*, int, const void*, std::size_t) { return 0; }
int cublasLtMatmulPreferenceSetAttribute(void*, int, const void*, std::size_t) { return 0; }
int cublasLtMatrixLayoutSetAttribute(void*, int, const void*, std::size_t) { return 0; }
int cublasLtMatmulAlgoConfigSetAttribute(void*, int, const void*, std::size_t) { return 0; }

}
