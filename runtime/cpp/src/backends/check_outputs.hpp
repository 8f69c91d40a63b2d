// What a graph gave, held against the manifest: ONNX Runtime only warns where a graph gives other shapes than it declares.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/array.hpp"
#include "bundle/manifest.hpp"

namespace alterbute {

// Sizes of free axes, by their names in the manifest.
using AxisSizes = std::map<std::string, std::int64_t>;

// Checks names, types and sizes of the outputs of a run; those in `into` were written in place and have their sizes. A
// free axis has one size in the whole run: that in the inputs, that in `sizes`, or that of its first output. Throws
// BundleError.
void check_outputs(const std::string& graph, const Graph& listed, const ArrayViews& inputs, const Arrays& outputs,
                   const ArrayViews& into, AxisSizes sizes);

}  // namespace alterbute
