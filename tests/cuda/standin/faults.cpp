// Faults that a test asks for: `cudaMalloc:3=2` fails the third cudaMalloc with error 2, `allocation:3+=2` every device
// allocation from the third on, several separated by commas. Names are functions, or the groups "allocation", "pinned",
// "kernel" (kernels, cuBLAS, cuDNN), "graph" (graph launches). standin_arm sets others in their place, counted from then on.
#include "call.h"
#include "settings.h"

#include <cstring>

namespace standin {
namespace {

struct Fault {
    std::string name;
    long at;
    bool onwards;
    cudaError_t error;
    long seen = 0;
};

void add(std::vector<Fault>& faults, const std::string& text) {
    std::size_t start = 0;
    while (start < text.size()) {
        const std::size_t comma = text.find(',', start);
        const std::string item = text.substr(start, comma == std::string::npos ? comma : comma - start);
        const std::size_t colon = item.find(':'), equals = item.find('=');
        if (colon != std::string::npos && equals != std::string::npos) {
            faults.push_back({item.substr(0, colon), std::stol(item.substr(colon + 1)), item[equals - 1] == '+',
                              static_cast<cudaError_t>(std::stoi(item.substr(equals + 1)))});
        }
        if (comma == std::string::npos) break;
        start = comma + 1;
    }
}

std::vector<Fault>& plan() {
    static std::vector<Fault>* const faults = [] {
        auto* read = new std::vector<Fault>;
        add(*read, settings().faults);
        return read;
    }();
    return *faults;
}

}  // namespace

cudaError_t next_fault(const std::string& name, const std::string& group) {
    cudaError_t error = cudaSuccess;
    for (Fault& fault : plan()) {
        if (fault.name != name && fault.name != group) continue;
        ++fault.seen;
        if (fault.seen == fault.at || (fault.onwards && fault.seen > fault.at)) error = fault.error;
    }
    return error;
}

bool is_fatal(cudaError_t error) {
    switch (static_cast<int>(error)) {
        case 46: case 214: case 220: case 226: case 700: case 702: case 709: case 710:
        case 714: case 715: case 716: case 717: case 718: case 719: case 721:
            return true;
        default:
            return false;
    }
}

}  // namespace standin

extern "C" void standin_arm(const char* faults) {
    const std::lock_guard<std::recursive_mutex> lock(standin::process().lock);
    standin::plan().clear();
    standin::add(standin::plan(), faults);
}
