// Inputs for the first run of a graph, which prepares kernels for its shapes, so that no edit waits for it.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "backends/onnxruntime.hpp"

namespace alterbute {

// Zeros for every input of a session; a free axis has the size of its name, or 1. Throws EngineError.
Arrays zero_inputs(const Session& session, const std::map<std::string, std::int64_t>& sizes);

}  // namespace alterbute
