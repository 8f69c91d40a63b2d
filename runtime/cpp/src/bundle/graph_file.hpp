// What a graph file is, found before ONNX Runtime gets a byte of it: its inputs and outputs, and where its tensors lie.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace alterbute {

// Bytes of each external data file, by the name by which graphs refer to it.
using DataSizes = std::map<std::string, std::uint64_t>;

// An input or output as the file declares it: the number of its ONNX type, and its sizes, nothing where they are free.
struct DeclaredEdge {
  std::string name;
  std::uint64_t type = 0;
  std::vector<std::optional<std::int64_t>> shape;
};

struct GraphFile {
  std::vector<DeclaredEdge> inputs, outputs;
};

// Walks the protobuf of an ONNX model and checks every tensor in it, of nested graphs and attributes, too. ONNX Runtime
// itself reads external data from places that are no file of a bundle: 1.23 takes the offset of the location
// `*/_ORT_MEM_ADDR_/*` as an address in this process. Linear in the file's size, with bounded recursion. Throws
// BundleError: no ONNX model, one in ONNX Runtime's own format, with parts that no exporter of bundles writes (functions,
// sparse tensors), or with a tensor outside `files`.
GraphFile read_graph_file(const std::string& file, std::string_view model, const DataSizes& files);

}  // namespace alterbute
