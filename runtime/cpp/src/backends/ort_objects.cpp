#include "backends/ort_objects.hpp"

#include <algorithm>
#include <array>

namespace alterbute {
namespace {

constexpr std::array<std::pair<DType, ONNXTensorElementDataType>, 4> kTypes = {
    {{DType::uint8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8},
     {DType::uint16, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16},
     {DType::int64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
     {DType::float32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT}}};

std::string code_name(OrtErrorCode code) {
  constexpr std::array<const char*, 12> kCodes = {"SUCCESS",           "FAIL",
                                                  "INVALID_ARGUMENT",  "NO_SUCHFILE",
                                                  "NO_MODEL",          "ENGINE_ERROR",
                                                  "RUNTIME_EXCEPTION", "INVALID_PROTOBUF",
                                                  "MODEL_LOADED",      "NOT_IMPLEMENTED",
                                                  "INVALID_GRAPH",     "EP_FAIL"};
  return static_cast<std::size_t>(code) < kCodes.size() ? kCodes[code] : "FAIL";
}

}  // namespace

void check(const OrtApi& api, OrtStatus* status) {
  if (status == nullptr) return;
  const OrtErrorCode code = api.GetErrorCode(status);
  std::string message = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  message = message.substr(0, message.find_first_of("\r\n"));
  throw Fault{"[ONNXRuntimeError] : " + std::to_string(code) + " : " + code_name(code) + " : " + message};
}

ONNXTensorElementDataType element_type(DType dtype) {
  return std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& known) { return known.first == dtype; })->second;
}

DType dtype_of_output(ONNXTensorElementDataType type) {
  const auto* found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& known) { return known.second == type; });
  if (found == kTypes.end()) throw Fault{"an output is of ONNX type " + std::to_string(type)};
  return found->first;
}

std::size_t element_bytes(ONNXTensorElementDataType type) {
  const bool is_half =
      type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 || type == ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
  return is_half ? 2 : size_of(dtype_of_output(type));
}

}  // namespace alterbute
