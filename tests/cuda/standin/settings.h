// What the tests configure by environment variables; tests/cuda/standin/README.md lists them.
#pragma once

#include <cstddef>
#include <string>

namespace standin {

struct Settings {
    std::string log;            // STANDIN_LOG: file that gets one line a call; empty: no log
    int devices;                // STANDIN_DEVICES: number of GPUs; 0: the driver finds none
    std::size_t memory;         // STANDIN_MEMORY: bytes of each GPU
    std::size_t occupied;       // STANDIN_OCCUPIED: bytes of each GPU that other processes hold
    int capability;             // STANDIN_CAPABILITY: compute capability, 90 for 9.0
    int driver;                 // STANDIN_DRIVER: CUDA version of the driver, 13000 for 13.0
    int init_error;             // STANDIN_INIT_ERROR: what cuInit returns; 0: success
    std::string faults;         // STANDIN_FAULTS: calls that fail (faults.cpp)
};

// The settings of this process, read once.
const Settings& settings();

}  // namespace standin
