// Any bytes are a graph whose tensors lie in the bundle's files, or are refused with a BundleError.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "alterbute/errors.hpp"
#include "bundle/graph_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    alterbute::read_graph_file("step.onnx", {reinterpret_cast<const char*>(data), size}, {{"weights.bin", 4096}});
  } catch (const alterbute::BundleError&) {
  }
  return 0;
}
