#include "backends/first_run.hpp"

#include "backends/ort_objects.hpp"

namespace alterbute {

Arrays zero_inputs(const Session& session, const std::map<std::string, std::int64_t>& sizes) {
  Arrays inputs;
  try {
    for (const Edge& edge : session.inputs()) {
      Shape shape = edge.shape;
      for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        if (shape[axis] > 0) continue;
        const auto size = sizes.find(edge.axes[axis]);
        shape[axis] = size == sizes.end() ? 1 : size->second;
      }
      const auto type = static_cast<ONNXTensorElementDataType>(edge.type);
      inputs.emplace(edge.name, Array(dtype_of_output(type), std::move(shape)));
    }
  } catch (const Fault& fault) {
    throw run_fault(session.graph(), fault.line);
  }
  return inputs;
}

}  // namespace alterbute
