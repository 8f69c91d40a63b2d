// Objects, types and errors of ONNX Runtime's C API, for the files that call it.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstddef>
#include <string>
#include <utility>

#include "base/array.hpp"

namespace alterbute {

// What went wrong in ONNX Runtime, in the form of its Python binding.
struct Fault {
  std::string line;
};

// Throws Fault unless the status is null, and releases it.
void check(const OrtApi& api, OrtStatus* status);

// Owns one of the API's objects.
template <typename Object>
class Owned {
 public:
  explicit Owned(void (*release)(Object*)) : release_(release) {}
  ~Owned() {
    if (object_ != nullptr) release_(object_);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;

  Object* get() const { return object_; }
  Object** out() { return &object_; }
  Object* take() { return std::exchange(object_, nullptr); }

 private:
  void (*release_)(Object*);
  Object* object_ = nullptr;
};

ONNXTensorElementDataType element_type(DType dtype);
// Throws Fault for a type that no output of a bundle has.
DType dtype_of_output(ONNXTensorElementDataType type);
// Bytes of one element, of the types above and of half precision. Throws Fault for another type.
std::size_t element_bytes(ONNXTensorElementDataType type);

}  // namespace alterbute
