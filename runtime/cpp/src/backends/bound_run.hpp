// A run of a session over memory that stays where it is.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "backends/onnxruntime.hpp"

struct OrtIoBinding;
struct OrtMemoryInfo;
struct OrtRunOptions;
struct OrtValue;

namespace alterbute {

// Where an input or output lies, and its shape in this run.
struct Place {
  void* address = nullptr;
  Shape shape;
};

// Which memory the places are in, in ONNX Runtime's terms: "Cuda" and the index of a GPU, or "Cpu".
struct MemoryKind {
  const char* name = "Cuda";
  int device = 0;
};

// One shape of a session, bound. Its memory and the session must outlive it.
class BoundRun {
 public:
  // `places` has every input and output of the session; others are ignored. `graph_id` is that of the CUDA graph which
  // the first run captures and later ones replay; -1: never captured. Throws EngineError.
  BoundRun(const Session& session, const std::map<std::string, Place>& places, const MemoryKind& kind, int graph_id);
  ~BoundRun();
  BoundRun(const BoundRun&) = delete;
  BoundRun& operator=(const BoundRun&) = delete;

  // Enqueues the graph and returns without waiting for the device. Throws EngineError.
  void run() const;

 private:
  OrtValue* wrap(const Edge& edge, const std::map<std::string, Place>& places, const OrtMemoryInfo* memory);
  void release();

  const Session& session_;
  OrtIoBinding* binding_ = nullptr;
  OrtRunOptions* options_ = nullptr;
  std::vector<OrtValue*> values_;
};

}  // namespace alterbute
