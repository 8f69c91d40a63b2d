#include "bundle/graph_file.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "alterbute/errors.hpp"
#include "base/text.hpp"
#include "bundle/manifest.hpp"
#include "bundle/protobuf.hpp"

namespace alterbute {
namespace {

using protobuf::Field;
using protobuf::Fields;
using protobuf::Malformed;

constexpr int kMaxDepth = 32;
constexpr std::size_t kMaxAxes = 64, kMaxName = 4096;
constexpr std::size_t kMaxFields = 1'000'000;

struct GraphFault {
  std::string seen, expected;
};

std::string shorten(std::string_view text) { return text::python_repr(text.substr(0, 80)); }

// The field's bytes, for a field that holds a message or text.
std::string_view bytes_of(const Field& field) {
  if (!field.has_bytes) throw Malformed("a field is of another kind");
  return field.bytes;
}
std::uint64_t number_of(const Field& field) {
  if (field.has_bytes || field.is_fixed) throw Malformed("a field is of another kind");
  return field.value;
}

// Fields that may be there once: of two, readers take the last, or merge them.
class Once {
 public:
  void mark(const Field& field) {
    const std::uint32_t bit = 1U << field.number;
    if ((seen_ & bit) != 0) throw Malformed("a part is given twice");
    seen_ |= bit;
  }

 private:
  std::uint32_t seen_ = 0;
};

// Bits of an element by the number of its type in ONNX; 0 for text and for what is no type.
std::uint64_t bits_of(std::uint64_t type) {
  constexpr std::array<std::uint8_t, 27> kBits = {0,  32,  8,  8, 16, 16, 32, 64, 0, 8, 16, 64, 32, 64,
                                                  64, 128, 16, 8, 8,  8,  8,  4,  4, 4, 8,  2,  2};
  return type < kBits.size() ? kBits[type] : 0;
}

// Bytes of a tensor; nothing where no file could hold them.
std::optional<std::uint64_t> size_of_tensor(const std::vector<std::uint64_t>& sizes, std::uint64_t type) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 48U;
  const std::uint64_t bits = bits_of(type);
  if (bits == 0) return std::nullopt;
  if (std::find(sizes.begin(), sizes.end(), 0U) != sizes.end()) return 0;
  std::uint64_t count = 1;
  for (const std::uint64_t size : sizes) {
    if (size > kMost / count) return std::nullopt;
    count *= size;
  }
  return (count * bits + 7) / 8;
}

// A number of 1 to 15 digits.
std::optional<std::uint64_t> whole(std::string_view digits) {
  constexpr std::size_t kMostDigits = 15;
  if (digits.empty() || digits.size() > kMostDigits || digits.find_first_not_of("0123456789") != std::string_view::npos)
    return std::nullopt;
  std::uint64_t value = 0;
  for (const char digit : digits) value = value * 10 + static_cast<std::uint64_t>(digit - '0');
  return value;
}

class Walk {
 public:
  explicit Walk(const DataSizes& files) : files_(files) {}

  GraphFile model(std::string_view bytes) {
    constexpr std::uint32_t kGraph = 7, kTraining = 20, kFunction = 25;
    std::optional<std::string_view> main;
    each(bytes, [&](const Field& field) {
      if (field.number == kTraining || field.number == kFunction)
        throw GraphFault{"it has functions or training graphs", "one graph alone"};
      if (field.number != kGraph) return;
      if (main) throw Malformed("a part is given twice");
      main = bytes_of(field);
    });
    if (!main) throw Malformed("it has no graph");
    GraphFile file;
    graph(*main, 1, &file);
    return file;
  }

 private:
  template <typename Read>
  void each(std::string_view bytes, Read read) {
    Fields fields(bytes);
    for (Field field; fields.next(field);) {
      if (++num_fields_ > kMaxFields) throw GraphFault{"it has over " + std::to_string(kMaxFields) + " fields", "fewer"};
      read(field);
    }
  }

  // `file` gets the edges of the main graph; null for a nested one.
  void graph(std::string_view bytes, int depth, GraphFile* file) {
    constexpr std::uint32_t kNode = 1, kInitializer = 5, kInput = 11, kOutput = 12, kSparse = 15;
    if (depth > kMaxDepth) throw GraphFault{"it has graphs nested too deep", std::to_string(kMaxDepth) + " levels at most"};
    std::set<std::string_view> initializers;
    each(bytes, [&](const Field& field) {
      switch (field.number) {
        case kNode:
          node(bytes_of(field), depth);
          break;
        case kInitializer:
          initializers.insert(tensor(bytes_of(field)));
          break;
        case kSparse:
          refuse_sparse();
        case kInput:
          if (file != nullptr) file->inputs.push_back(edge(bytes_of(field)));
          break;
        case kOutput:
          if (file != nullptr) file->outputs.push_back(edge(bytes_of(field)));
          break;
        default:
          break;
      }
    });
    if (file == nullptr) return;
    for (const DeclaredEdge& input : file->inputs) {
      if (initializers.count(input.name) != 0)
        throw GraphFault{"it has the input " + shorten(input.name) + " among its weights, too", "one of the two"};
    }
  }

  void node(std::string_view bytes, int depth) {
    constexpr std::uint32_t kAttribute = 5;
    each(bytes, [&](const Field& field) {
      if (field.number == kAttribute) attribute(bytes_of(field), depth + 1);
    });
  }

  void attribute(std::string_view bytes, int depth) {
    constexpr std::uint32_t kTensor = 5, kGraph = 6, kTensors = 10, kGraphs = 11, kSparse = 22, kSparses = 23;
    Once once;
    each(bytes, [&](const Field& field) {
      if (field.number == kTensor || field.number == kGraph) once.mark(field);
      if (field.number == kTensor || field.number == kTensors) tensor(bytes_of(field));
      if (field.number == kGraph || field.number == kGraphs) graph(bytes_of(field), depth + 1, nullptr);
      if (field.number == kSparse || field.number == kSparses) refuse_sparse();
    });
  }

  [[noreturn]] static void refuse_sparse() { throw GraphFault{"it has sparse tensors", "dense ones"}; }

  // Returns its name.
  std::string_view tensor(std::string_view bytes) {
    constexpr std::uint32_t kDims = 1, kType = 2, kName = 8, kExternal = 13, kLocation = 14;
    std::vector<std::uint64_t> sizes;
    std::vector<std::string_view> entries;
    std::uint64_t type = 0, location = 0;
    std::string_view name;
    Once once;
    each(bytes, [&](const Field& field) {
      switch (field.number) {
        case kDims:
          if (!field.has_bytes) sizes.push_back(number_of(field));
          for (Fields packed(field.bytes); !packed.is_at_end() && sizes.size() <= kMaxAxes;)
            sizes.push_back(packed.packed());
          if (sizes.size() > kMaxAxes) throw GraphFault{"it has a tensor of too many axes", std::to_string(kMaxAxes) + " at most"};
          break;
        case kType:
          once.mark(field);
          type = number_of(field);
          break;
        case kName:
          once.mark(field);
          name = bytes_of(field);
          break;
        case kExternal:
          entries.push_back(bytes_of(field));
          break;
        case kLocation:
          once.mark(field);
          location = number_of(field);
          break;
        default:
          break;
      }
    });
    if (location != 0 || !entries.empty()) check_place(entries, size_of_tensor(sizes, type));
    return name;
  }

  // External data: a location, an offset and a length, within a file of the bundle.
  void check_place(const std::vector<std::string_view>& entries, const std::optional<std::uint64_t>& size) {
    std::map<std::string_view, std::string_view> given;
    for (const std::string_view entry : entries) {
      std::array<std::string_view, 2> parts;
      Once once;
      each(entry, [&](const Field& field) {
        if (field.number > parts.size()) return;
        once.mark(field);
        parts[field.number - 1] = bytes_of(field);
      });
      const auto& [key, value] = parts;
      if ((key != "location" && key != "offset" && key != "length") || !given.emplace(key, value).second)
        throw GraphFault{"it describes external data by " + shorten(key), "location, offset and length, each once"};
    }
    const std::string_view place = given["location"];
    const auto file = files_.find(std::string(place.substr(0, 1000)));
    if (file == files_.end()) {
      std::vector<std::string> names;
      for (const auto& [name, bytes] : files_) names.push_back(name);
      throw GraphFault{"it keeps a tensor in " + shorten(place),
                       names.empty() ? "no external data" : "a file of the manifest: " + text::join(names, " or ")};
    }
    const auto offset = whole(given["offset"]), length = whole(given["length"]);
    const bool fits = offset && length && *length <= file->second && *offset <= file->second - *length;
    if (!fits || size != length) {
      throw GraphFault{"it keeps a tensor at offset " + shorten(given["offset"]) + " of " + file->first + ", " +
                           shorten(given["length"]) + " bytes",
                       (size ? std::to_string(*size) : "the tensor's") + " bytes within the file's " +
                           std::to_string(file->second)};
    }
  }

  DeclaredEdge edge(std::string_view bytes) {
    constexpr std::uint32_t kName = 1, kType = 2, kTensorType = 1, kElement = 1, kShape = 2, kDim = 1;
    DeclaredEdge declared;
    bool has_shape = false;
    Once of_edge, of_type, of_tensor;
    each(bytes, [&](const Field& field) {
      if (field.number != kName && field.number != kType) return;
      of_edge.mark(field);
      if (field.number == kName) {
        declared.name = bytes_of(field);
        if (declared.name.size() > kMaxName || !text::decode(declared.name))
          throw GraphFault{"it has an input or output with a malformed name", "UTF-8 of " + std::to_string(kMaxName) + " bytes at most"};
        return;
      }
      each(bytes_of(field), [&](const Field& type) {
        if (type.number != kTensorType) return;
        of_type.mark(type);
        each(bytes_of(type), [&](const Field& part) {
          if (part.number != kElement && part.number != kShape) return;
          of_tensor.mark(part);
          if (part.number == kElement) {
            declared.type = number_of(part);
            return;
          }
          has_shape = true;
          each(bytes_of(part), [&](const Field& dim) {
            if (dim.number == kDim) declared.shape.push_back(axis(bytes_of(dim)));
          });
        });
      });
    });
    if (!has_shape) throw GraphFault{"it declares no shape of " + shorten(declared.name), "a tensor with a shape"};
    return declared;
  }

  std::optional<std::int64_t> axis(std::string_view bytes) {
    constexpr std::uint32_t kValue = 1, kParam = 2;
    std::optional<std::int64_t> size;
    bool is_given = false;
    each(bytes, [&](const Field& field) {
      if (field.number != kValue && field.number != kParam) return;
      if (std::exchange(is_given, true)) throw Malformed("a part is given twice");
      if (field.number == kValue) {
        size = static_cast<std::int64_t>(number_of(field));
      } else {
        bytes_of(field);
      }
    });
    return size;
  }

  const DataSizes& files_;
  std::size_t num_fields_ = 0;
};

}  // namespace

GraphFile read_graph_file(const std::string& file, std::string_view model, const DataSizes& files) {
  // ONNX Runtime knows its own format by these letters, whatever stands before them.
  constexpr std::size_t kMarkAt = 4, kMarkBytes = 4;
  const auto refuse = [&](const std::string& why, const std::string& expected) {
    return BundleError("the bundle's graph file " + text::python_repr(file) + " is not what an export writes (" + why + ")",
                       expected, "get the bundle from a source that you trust, or export it again");
  };
  try {
    if (model.size() >= kMarkAt + kMarkBytes && model.substr(kMarkAt, kMarkBytes) == "ORTM")
      throw GraphFault{"it is in ONNX Runtime's own format", "an ONNX model"};
    return Walk(files).model(model);
  } catch (const GraphFault& fault) {
    throw refuse(fault.seen, fault.expected);
  } catch (const Malformed& fault) {
    throw refuse(fault.what(), "an ONNX model");
  }
}

}  // namespace alterbute
