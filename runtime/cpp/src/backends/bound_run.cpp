#include "backends/bound_run.hpp"

#include "backends/ort_objects.hpp"

namespace alterbute {

BoundRun::BoundRun(const Session& session, const std::map<std::string, Place>& places, const MemoryKind& kind,
                   int graph_id)
    : session_(session) {
  const OrtApi& api = session.runtime().api();
  try {
    Owned<OrtMemoryInfo> memory(api.ReleaseMemoryInfo);
    check(api, api.CreateMemoryInfo(kind.name, OrtDeviceAllocator, kind.device, OrtMemTypeDefault, memory.out()));
    check(api, api.CreateIoBinding(session.handle(), &binding_));
    for (const Edge& edge : session.inputs())
      check(api, api.BindInput(binding_, edge.name.c_str(), wrap(edge, places, memory.get())));
    for (const Edge& edge : session.outputs())
      check(api, api.BindOutput(binding_, edge.name.c_str(), wrap(edge, places, memory.get())));
    check(api, api.CreateRunOptions(&options_));
    check(api, api.AddRunConfigEntry(options_, "gpu_graph_id", std::to_string(graph_id).c_str()));
    check(api, api.AddRunConfigEntry(options_, "disable_synchronize_execution_providers", "1"));
  } catch (const Fault& fault) {
    release();
    throw run_fault(session.graph(), fault.line);
  }
}

BoundRun::~BoundRun() { release(); }

void BoundRun::run() const {
  const OrtApi& api = session_.runtime().api();
  try {
    check(api, api.RunWithBinding(session_.handle(), options_, binding_));
  } catch (const Fault& fault) {
    throw run_fault(session_.graph(), fault.line);
  }
}

OrtValue* BoundRun::wrap(const Edge& edge, const std::map<std::string, Place>& places, const OrtMemoryInfo* memory) {
  const OrtApi& api = session_.runtime().api();
  const auto place = places.find(edge.name);
  if (place == places.end()) throw Fault{edge.name + " is not bound"};
  const auto type = static_cast<ONNXTensorElementDataType>(edge.type);
  const auto& [address, shape] = place->second;
  const std::size_t bytes = count_of(shape) * element_bytes(type);
  values_.push_back(nullptr);
  check(api, api.CreateTensorWithDataAsOrtValue(memory, address, bytes, shape.data(), shape.size(), type,
                                                &values_.back()));
  return values_.back();
}

void BoundRun::release() {
  const OrtApi& api = session_.runtime().api();
  if (options_ != nullptr) api.ReleaseRunOptions(options_);
  if (binding_ != nullptr) api.ReleaseIoBinding(binding_);
  for (OrtValue* value : values_) {
    if (value != nullptr) api.ReleaseValue(value);
  }
}

}  // namespace alterbute
