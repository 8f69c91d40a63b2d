// Device memory is host memory in pages of its own: zeroed, counted against the GPU's size, and no longer there once freed.
#include "call.h"
#include "settings.h"

#include <sys/mman.h>

#include <cstring>

using namespace standin;

namespace {

constexpr std::size_t kPage = 4096;

std::size_t free_bytes(int device) {
    const std::size_t taken = process().used[device] + settings().occupied;
    return taken > settings().memory ? 0 : settings().memory - taken;
}

cudaError_t allocate(Call& call, void** address, std::size_t bytes, bool pinned) {
    call.say("bytes=%zu", bytes);
    if (call.refused()) return call.error();
    const std::size_t mapped = (bytes + kPage - 1) / kPage * kPage;
    *address = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (!pinned && mapped > free_bytes(current_device())) return call.fail(cudaErrorMemoryAllocation);
    void* const pages = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) return call.fail(cudaErrorMemoryAllocation);
    process().memory[static_cast<char*>(pages)] = {bytes, mapped, current_device(), pinned};
    if (!pinned) process().used[current_device()] += mapped;
    *address = pages;
    return cudaSuccess;
}

cudaError_t release(Call& call, void* address, bool pinned) {
    if (call.refused() || !address) return call.error();
    const auto found = process().memory.find(static_cast<char*>(address));
    if (found == process().memory.end() || found->second.pinned != pinned) return call.fail(cudaErrorInvalidValue);
    if (!pinned) process().used[found->second.device] -= found->second.mapped;
    munmap(address, found->second.mapped);
    process().memory.erase(found);
    return cudaSuccess;
}

const char* place(const Allocation* memory) { return !memory ? "pageable" : memory->pinned ? "pinned" : "device"; }

// Copies rows; both ends must lie inside one allocation each where the kind says that they are on the device.
cudaError_t copy(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t width,
                 std::size_t height, cudaMemcpyKind kind) {
    if (width == 0 || height == 0) return cudaSuccess;
    const Allocation* const target = find_memory(to, to_pitch * (height - 1) + width);
    const Allocation* const source = find_memory(from, from_pitch * (height - 1) + width);
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if ((to_device && (!target || target->pinned)) || (from_device && (!source || source->pinned)))
        return cudaErrorInvalidValue;
    for (std::size_t row = 0; row < height; ++row)
        std::memmove(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width);
    return cudaSuccess;
}

cudaError_t fill(void* to, int value, std::size_t bytes) {
    const Allocation* const memory = find_memory(to, bytes);
    if (bytes && (!memory || memory->pinned)) return cudaErrorInvalidValue;
    std::memset(to, value, bytes);
    return cudaSuccess;
}

cudaError_t copy_later(Call& call, void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                       std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t handle) {
    call.say("bytes=%zu kind=%d from=%s to=%s", width * height, static_cast<int>(kind), place(find_memory(from, width)),
             place(find_memory(to, width)));
    if (call.refused()) return call.error();
    Stream* const stream = call.use(handle);
    if (!stream) return call.error();
    return call.enqueue(stream, [=] { return copy(to, to_pitch, from, from_pitch, width, height, kind); });
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** address, std::size_t bytes) {
    Call call("cudaMalloc", Rule::kUnsafe, "allocation");
    return allocate(call, address, bytes, false);
}

cudaError_t cudaMallocFromPoolAsync(void** address, std::size_t bytes, cudaMemPool_t, cudaStream_t stream) {
    Call call("cudaMallocFromPoolAsync", Rule::kSafe, "allocation");
    if (!call.refused()) call.use(stream);
    return allocate(call, address, bytes, false);
}

cudaError_t cudaFree(void* address) {
    Call call("cudaFree", Rule::kUnsafe);
    return release(call, address, false);
}

cudaError_t cudaFreeAsync(void* address, cudaStream_t stream) {
    Call call("cudaFreeAsync", Rule::kSafe);
    if (!call.refused()) call.use(stream);
    return release(call, address, false);
}

cudaError_t cudaHostAlloc(void** address, std::size_t bytes, unsigned) {
    Call call("cudaHostAlloc", Rule::kUnsafe, "pinned");
    return allocate(call, address, bytes, true);
}

cudaError_t cudaMallocHost(void** address, std::size_t bytes) {
    Call call("cudaMallocHost", Rule::kUnsafe, "pinned");
    return allocate(call, address, bytes, true);
}

cudaError_t cudaFreeHost(void* address) {
    Call call("cudaFreeHost", Rule::kUnsafe);
    return release(call, address, true);
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    Call call("cudaMemGetInfo", Rule::kSafe);
    if (call.refused()) return call.error();
    *free = free_bytes(current_device());
    *total = settings().memory;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
    Call call("cudaPointerGetAttributes", Rule::kSafe);
    if (call.refused()) return call.error();
    const Allocation* const memory = find_memory(address, 1);
    *attributes = {};
    attributes->type = !memory ? cudaMemoryTypeUnregistered : memory->pinned ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
    attributes->device = memory ? memory->device : -1;
    attributes->devicePointer = memory ? const_cast<void*>(address) : nullptr;
    attributes->hostPointer = memory && !memory->pinned ? nullptr : const_cast<void*>(address);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    Call call("cudaMemcpy", Rule::kUnsafe);
    return copy_later(call, to, 0, from, 0, bytes, 1, kind, nullptr);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    Call call("cudaMemcpyAsync", Rule::kSafe);
    return copy_later(call, to, 0, from, 0, bytes, 1, kind, stream);
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
    Call call("cudaMemcpy2DAsync", Rule::kSafe);
    return copy_later(call, to, to_pitch, from, from_pitch, width, height, kind, stream);
}

cudaError_t cudaMemcpyFromSymbol(void* to, const void*, std::size_t bytes, std::size_t, cudaMemcpyKind) {
    Call call("cudaMemcpyFromSymbol", Rule::kUnsafe);
    if (call.refused()) return call.error();
    std::memset(to, 0, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemset(void* to, int value, std::size_t bytes) {
    Call call("cudaMemset", Rule::kUnsafe);
    call.say("bytes=%zu", bytes);
    if (call.refused() || !call.use(nullptr)) return call.error();
    return call.fail(fill(to, value, bytes));
}

cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t handle) {
    Call call("cudaMemsetAsync", Rule::kSafe);
    call.say("bytes=%zu", bytes);
    if (call.refused()) return call.error();
    Stream* const stream = call.use(handle);
    if (!stream) return call.error();
    return call.enqueue(stream, [=] { return fill(to, value, bytes); });
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
    Call call("cudaMemPoolCreate", Rule::kSafe);
    if (!call.refused()) *pool = reinterpret_cast<cudaMemPool_t>(1);
    return call.error();
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t) { return Call("cudaMemPoolDestroy", Rule::kSafe).error(); }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, std::size_t) { return Call("cudaMemPoolTrimTo", Rule::kSafe).error(); }

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) {
    return Call("cudaMemPoolSetAttribute", Rule::kSafe).error();
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void* value) {
    Call call("cudaMemPoolGetAttribute", Rule::kSafe);
    if (!call.refused()) *static_cast<std::size_t*>(value) = 0;
    return call.error();
}

}
