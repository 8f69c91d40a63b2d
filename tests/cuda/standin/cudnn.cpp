// cuDNN's classic functions, which the provider looks up by name: descriptors, workspaces of no bytes, and logged launches.
#include "library_handle.h"

#include <cstddef>

using standin::Handle;

namespace {

constexpr int kAllocationFailed = 1003, kNotSupported = 3000, kExecutionFailed = 5000;

}  // namespace

extern "C" {

int cudnnCreate(void** handle) { return standin::create(handle, "cudnnCreate", kAllocationFailed); }
int cudnnDestroy(void* handle) { return standin::destroy(handle); }

int cudnnSetStream(void* handle, void* stream) {
    static_cast<Handle*>(handle)->stream = stream;
    return 0;
}

int cudnnGetStream(void* handle, void** stream) {
    *stream = static_cast<Handle*>(handle)->stream;
    return 0;
}

std::size_t cudnnGetVersion() { return 91500; }
std::size_t cudnnGetCudartVersion() { return 13000; }
const char* cudnnGetErrorString(int status) { return status ? "CUDNN_STATUS_EXECUTION_FAILED" : "CUDNN_STATUS_SUCCESS"; }

void cudnnGetLastErrorString(char* text, std::size_t size) {
    if (size) text[0] = 0;
}

#define DESCRIPTOR(kind) \
    int cudnnCreate##kind##Descriptor(void** descriptor) { \
        *descriptor = new char[64](); \
        return 0; \
    } \
    int cudnnDestroy##kind##Descriptor(void* descriptor) { \
        delete[] static_cast<char*>(descriptor); \
        return 0; \
    }
DESCRIPTOR(Activation)
DESCRIPTOR(Convolution)
DESCRIPTOR(Dropout)
DESCRIPTOR(Filter)
DESCRIPTOR(LRN)
DESCRIPTOR(Pooling)
DESCRIPTOR(RNNData)
DESCRIPTOR(RNN)
DESCRIPTOR(ReduceTensor)
DESCRIPTOR(Tensor)

#define SUCCEED(name) \
    int name() { return 0; }
SUCCEED(cudnnSetActivationDescriptor)
SUCCEED(cudnnSetConvolutionGroupCount)
SUCCEED(cudnnSetConvolutionMathType)
SUCCEED(cudnnSetConvolutionNdDescriptor)
SUCCEED(cudnnSetDropoutDescriptor)
SUCCEED(cudnnSetFilterNdDescriptor)
SUCCEED(cudnnSetLRNDescriptor)
SUCCEED(cudnnSetPoolingNdDescriptor)
SUCCEED(cudnnSetRNNDataDescriptor)
SUCCEED(cudnnSetRNNDescriptor_v8)
SUCCEED(cudnnSetReduceTensorDescriptor)
SUCCEED(cudnnSetTensorNdDescriptor)
SUCCEED(cudnnDeriveBNTensorDescriptor)
SUCCEED(cudnnGetTensorNdDescriptor)

int cudnnGetConvolutionForwardWorkspaceSize(void*, void*, void*, void*, void*, int, std::size_t* bytes) { return *bytes = 0; }
int cudnnGetReductionIndicesSize(void*, void*, void*, void*, std::size_t* bytes) { return *bytes = 0; }
int cudnnDropoutGetStatesSize(void*, std::size_t* bytes) { return *bytes = 0; }

int cudnnGetReductionWorkspaceSize(void*, void*, void*, void*, std::size_t* bytes) {
    *bytes = 1024;
    return 0;
}

int cudnnGetRNNTempSpaceSizes(void*, void*, int, void*, std::size_t* work, std::size_t* reserve) {
    *work = *reserve = 0;
    return 0;
}

// Functions whose results the stand-in has no meaning for: graphs that need them fail with CUDNN_STATUS_NOT_SUPPORTED.
#define REFUSE(name) \
    int name() { return kNotSupported; }
REFUSE(cudnnGetRNNWeightParams)
REFUSE(cudnnFindConvolutionForwardAlgorithmEx)
REFUSE(cudnnGetConvolutionForwardAlgorithm_v7)

#define LAUNCH(name) \
    int name(void* handle, ...) { return standin::launch(handle, #name, "", kExecutionFailed); }
LAUNCH(cudnnActivationForward)
LAUNCH(cudnnAddTensor)
LAUNCH(cudnnBatchNormalizationForwardInference)
LAUNCH(cudnnBatchNormalizationForwardTraining)
LAUNCH(cudnnConvolutionBiasActivationForward)
LAUNCH(cudnnConvolutionForward)
LAUNCH(cudnnLRNCrossChannelForward)
LAUNCH(cudnnPoolingForward)
LAUNCH(cudnnRNNForward)
LAUNCH(cudnnReduceTensor)
LAUNCH(cudnnSoftmaxForward)

}
