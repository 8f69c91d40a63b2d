#include "backends/check_outputs.hpp"

#include <vector>

#include "alterbute/errors.hpp"
#include "base/text.hpp"

namespace alterbute {
namespace {

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::uint8:
      return "uint8";
    case DType::uint16:
      return "uint16";
    case DType::int64:
      return "int64";
    default:
      return "float32";
  }
}

}  // namespace

void check_outputs(const std::string& graph, const Graph& listed, const ArrayViews& inputs, const Arrays& outputs,
                   const ArrayViews& into, AxisSizes sizes) {
  for (const TensorSpec& spec : listed.inputs) {
    const auto given = inputs.find(spec.name);
    if (given == inputs.end()) continue;
    for (std::size_t axis = 0; axis < spec.shape.size() && axis < given->second.shape.size(); ++axis)
      if (spec.shape[axis] < 0) sizes.emplace(spec.axes[axis], given->second.shape[axis]);
  }
  for (const TensorSpec& spec : listed.outputs) {
    if (into.count(spec.name) != 0) continue;
    const auto found = outputs.find(spec.name);
    Shape expected;
    std::string told;
    for (std::size_t axis = 0; axis < spec.shape.size(); ++axis) {
      // The first output with a free axis decides its size.
      if (spec.shape[axis] < 0 && found != outputs.end() && axis < found->second.shape().size())
        sizes.emplace(spec.axes[axis], found->second.shape()[axis]);
      const auto size = sizes.find(spec.axes[axis]);
      const bool is_known = spec.shape[axis] >= 0 || size != sizes.end();
      expected.push_back(spec.shape[axis] >= 0 ? spec.shape[axis] : is_known ? size->second : -1);
      told += (told.empty() ? "" : ", ") + (is_known ? std::to_string(expected.back()) : spec.axes[axis]);
    }
    if (found != outputs.end() && found->second.shape() == expected && spec.dtype == name_of(found->second.dtype()))
      continue;
    const std::string seen = found == outputs.end() ? "no such output"
                                                    : std::string(name_of(found->second.dtype())) + " " +
                                                          text::python_repr(found->second.shape());
    throw BundleError("the graph " + text::python_repr(graph) + " makes " + text::python_repr(spec.name) + " as " + seen,
                      spec.dtype + " [" + told + "], as the manifest lists it",
                      "get the bundle from a source that you trust, or export it again");
  }
}

}  // namespace alterbute
