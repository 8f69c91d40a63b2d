// cuBLAS: products that are logged with their sizes and not computed.
#include "library_handle.h"

#include <cstdio>

using standin::Handle;

namespace {

constexpr int kAllocationFailed = 3, kExecutionFailed = 13;

int launch(void* handle, const char* name, const char* arguments = "") {
    return standin::launch(handle, name, arguments, kExecutionFailed);
}

}  // namespace

extern "C" {

int cublasCreate_v2(void** handle) { return standin::create(handle, "cublasCreate", kAllocationFailed); }

int cublasDestroy_v2(void* handle) { return standin::destroy(handle); }

int cublasSetStream_v2(void* handle, void* stream) {
    static_cast<Handle*>(handle)->stream = stream;
    return 0;
}

int cublasGetMathMode(void* handle, int* mode) {
    *mode = static_cast<Handle*>(handle)->mode;
    return 0;
}

int cublasSetMathMode(void* handle, int mode) {
    static_cast<Handle*>(handle)->mode = mode;
    return 0;
}

const char* cublasGetStatusName(int status) { return status ? "CUBLAS_STATUS_EXECUTION_FAILED" : "CUBLAS_STATUS_SUCCESS"; }
const char* cublasGetStatusString(int status) { return cublasGetStatusName(status); }

// Products whose size the log shows: rows, columns, and the sum's length.
#define SIZED(name) \
    int name(void* handle, int, int, int m, int n, int k, ...) { \
        char text[64]; \
        std::snprintf(text, sizeof text, "m=%d n=%d k=%d", m, n, k); \
        return launch(handle, #name, text); \
    }
SIZED(cublasGemmEx)
SIZED(cublasGemmStridedBatchedEx)
SIZED(cublasGemmBatchedEx)
SIZED(cublasSgemm_v2)
SIZED(cublasDgemm_v2)
SIZED(cublasSgemmStridedBatched)
SIZED(cublasDgemmStridedBatched)
SIZED(cublasSgemmBatched)
SIZED(cublasDgemmBatched)

#define LAUNCH(name) \
    int name(void* handle, ...) { return launch(handle, #name); }
LAUNCH(cublasSgeam)
LAUNCH(cublasDgeam)
LAUNCH(cublasScopy_v2)
LAUNCH(cublasSscal_v2)
LAUNCH(cublasSgetrfBatched)
LAUNCH(cublasDgetrfBatched)
LAUNCH(cublasSgetriBatched)
LAUNCH(cublasDgetriBatched)

}
