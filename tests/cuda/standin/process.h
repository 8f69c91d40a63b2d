// What the stand-in knows about this process: memory, streams, events, captures and graphs, all under one lock.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace standin {

// Work that a graph does again at each launch: copies and memory sets. Kernels do nothing here.
using Node = std::function<cudaError_t()>;

struct Stream;

struct Capture {
    int id;
    int thread;
    cudaStreamCaptureMode mode;
    Stream* origin;
    bool invalid = false;
    std::vector<Node> nodes;
};

struct Stream {
    int id;
    int device;
    bool blocking;                  // ordered after the legacy stream
    Capture* capture = nullptr;
    bool joined = true;             // its captured work is ordered before the origin's next
};

struct Event {
    int device;
    bool recorded = false;
    int capture = 0;                // capture that it was recorded in
    Stream* stream = nullptr;
};

struct Graph {
    int capture;
    std::vector<Node> nodes;
};

struct Allocation {
    std::size_t bytes;
    std::size_t mapped;             // bytes of whole pages
    int device;
    bool pinned;                    // host memory that the device reads
};

struct Process {
    std::recursive_mutex lock;
    std::map<char*, Allocation> memory;
    std::map<int, std::size_t> used;                    // bytes by device
    std::set<Stream*> streams;
    std::set<Event*> events;
    std::set<Graph*> graphs, executables;
    std::vector<std::unique_ptr<Capture>> captures;     // under way
    int next_id = 1;
    cudaError_t lost = cudaSuccess;                     // the error after which every call fails
};

// Never destroyed: libraries call CUDA while the process ends.
Process& process();

// Numbers of this thread: 1 for the first that calls.
int thread_number();
int& current_device();
cudaStreamCaptureMode& thread_mode();

// The stream of a handle; null for an unknown one. Handles 0, 1 and 2 are the default streams.
Stream* find_stream(cudaStream_t handle);
bool is_legacy(const Stream* stream);

// The allocation that holds bytes from an address on; null where there is none, or where it is shorter.
const Allocation* find_memory(const void* address, std::size_t bytes);

}  // namespace standin
