// Which of a graph's files runs on a device.
#pragma once

#include <string>

#include "bundle/manifest.hpp"

namespace alterbute {

// For the CPU. Throws BundleError: the bundle has no file for it.
const Variant& cpu_variant(const Manifest& manifest, const std::string& graph);

// For ONNX Runtime's CUDA provider: a file made for it before one made for any provider, half precision before full,
// and one with a prologue before one without; if exact, deterministic ones only. Throws BundleError.
const Variant& cuda_variant(const Manifest& manifest, const std::string& graph, bool exact);

}  // namespace alterbute
