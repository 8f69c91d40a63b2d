// Kernels: what the provider registers when it is loaded, and launches, which are logged by name and not run.
#include "call.h"
#include "settings.h"

#include <cxxabi.h>

#include <cstdlib>
#include <cstring>
#include <unordered_map>

using namespace standin;

namespace {

// Mangled names by the address that a launch names.
std::unordered_map<const void*, std::string>& names() {
    static auto* const all = new std::unordered_map<const void*, std::string>;
    return *all;
}

std::string name_of(const void* kernel) {
    const auto found = names().find(kernel);
    if (found == names().end()) return "unknown";
    int status = 0;
    char* const readable = abi::__cxa_demangle(found->second.c_str(), nullptr, nullptr, &status);
    const std::string name = readable ? readable : found->second;
    std::free(readable);
    return name.substr(0, 300);
}

cudaError_t launch(const char* function, const void* kernel, dim3 grid, dim3 block, cudaStream_t stream) {
    Call call(function, Rule::kSafe, "kernel");
    call.say("%s <%u,%u,%u> <%u,%u,%u>", name_of(kernel).c_str(), grid.x, grid.y, grid.z, block.x, block.y, block.z);
    if (!call.refused()) call.use(stream, true);
    return call.error();
}

struct Configuration {
    dim3 grid, block;
    std::size_t shared;
    cudaStream_t stream;
};
thread_local Configuration configuration;

}  // namespace

extern "C" {

void** __cudaRegisterFatBinary(void* binary) { return static_cast<void**>(binary); }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, std::size_t, int, int) {}

void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*, int*) {
    const std::lock_guard<std::recursive_mutex> lock(process().lock);
    names()[host] = name;
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared, cudaStream_t stream) {
    configuration = {grid, block, shared, stream};
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared, void* stream) {
    *grid = configuration.grid;
    *block = configuration.block;
    *shared = configuration.shared;
    *static_cast<cudaStream_t*>(stream) = configuration.stream;
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host) {
    *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(host));
    return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void**, std::size_t, cudaStream_t stream) {
    return launch("cudaLaunchKernel", kernel, grid, block, stream);
}

cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void**, std::size_t, cudaStream_t stream) {
    return launch("cudaLaunchKernel", kernel, grid, block, stream);
}

cudaError_t cudaLaunchCooperativeKernel(const void* kernel, dim3 grid, dim3 block, void**, std::size_t, cudaStream_t stream) {
    return launch("cudaLaunchCooperativeKernel", kernel, grid, block, stream);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void**) {
    return launch("cudaLaunchKernelExC", kernel, config->gridDim, config->blockDim, config->stream);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
    Call call("cudaFuncGetAttributes", Rule::kSafe);
    if (call.refused()) return call.error();
    *attributes = {};
    attributes->maxThreadsPerBlock = 1024;
    attributes->numRegs = 64;
    attributes->binaryVersion = attributes->ptxVersion = settings().capability;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return Call("cudaFuncSetAttribute", Rule::kSafe).error(); }

cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t, cudaFuncAttribute, int, int) {
    return Call("cudaKernelSetAttributeForDevice", Rule::kSafe).error();
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, std::size_t, unsigned) {
    *blocks = 2;
    return Call("cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", Rule::kSafe).error();
}

cudaError_t cudaLibraryLoadData(cudaLibrary_t* library, const void*, cudaJitOption*, void**, unsigned, cudaLibraryOption*,
                                void**, unsigned) {
    Call call("cudaLibraryLoadData", Rule::kUnsafe);
    if (!call.refused()) *library = reinterpret_cast<cudaLibrary_t>(1);
    return call.error();
}

cudaError_t cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t, const char* name) {
    Call call("cudaLibraryGetKernel", Rule::kSafe);
    if (call.refused()) return call.error();
    // The copy's address is the kernel's handle; a library is loaded once a process, so it is never freed.
    char* const copy = strdup(name);
    names()[copy] = name;
    *kernel = reinterpret_cast<cudaKernel_t>(copy);
    return cudaSuccess;
}

cudaError_t cudaLibraryUnload(cudaLibrary_t) { return Call("cudaLibraryUnload", Rule::kSafe).error(); }

}
