#include "bundle/safetensors.hpp"

#include "base/text.hpp"

namespace alterbute {
namespace {

constexpr std::size_t kSizeBytes = 8;

std::uint64_t little_endian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t k = 0; k < bytes.size(); ++k)
    value |= std::uint64_t{static_cast<unsigned char>(bytes[k])} << (8 * k);
  return value;
}

// A whole number from 0 that a file's size can hold; false for anything else.
bool read_whole(const Json& value, std::int64_t& number) {
  constexpr double kMost = 9e15;
  if (value.kind != Json::Kind::integer || !(value.number >= 0 && value.number <= kMost)) return false;
  number = static_cast<std::int64_t>(value.number);
  return true;
}

// One tensor, which has to start where the last one ended.
SafetensorsTensor read_tensor(const std::string& name, const Json& entry, std::string_view body, std::size_t begin) {
  const Json* dtype = entry.find("dtype");
  const Json* shape = entry.find("shape");
  const Json* span = entry.find("data_offsets");
  const bool is_entry = entry.fields.size() == 3 && dtype != nullptr && shape != nullptr && span != nullptr &&
                        shape->kind == Json::Kind::array;
  if (!is_entry || (dtype->text != "F32" && dtype->text != "I64")) {
    throw SafetensorsFault{"has " + name + " = " + dump_json(entry).substr(0, 80),
                           "dtype (F32 or I64), shape and data_offsets"};
  }
  SafetensorsTensor tensor;
  tensor.dtype = dtype->text;
  std::size_t size = tensor.dtype == "F32" ? 4 : 8;
  bool fits = true;
  for (const Json& axis : shape->items) {
    std::int64_t length = 0;
    if (!read_whole(axis, length))
      throw SafetensorsFault{"has " + name + " of shape " + dump_json(*shape), "whole numbers"};
    tensor.shape.push_back(length);
    // Once over the file's size the product stays there, so that it cannot wrap round; a zero makes it small again.
    fits = length == 0 || (fits && size <= body.size() / static_cast<std::size_t>(length));
    size = length == 0 ? 0 : fits ? size * static_cast<std::size_t>(length) : size;
  }
  std::int64_t first = -1, last = -1;
  const bool is_span = span->items.size() == 2 && read_whole(span->items[0], first) && read_whole(span->items[1], last);
  fits = fits && size <= body.size() - begin;
  if (!is_span || !fits || static_cast<std::size_t>(first) != begin || static_cast<std::size_t>(last) != begin + size) {
    throw SafetensorsFault{"has " + name + " at " + dump_json(*span), "bytes " + std::to_string(begin) +
                                                                          " on, for shape " + text::python_repr(tensor.shape) +
                                                                          " of " + std::to_string(body.size())};
  }
  tensor.bytes = body.substr(begin, size);
  return tensor;
}

}  // namespace

Safetensors read_safetensors(std::string_view data) {
  const std::uint64_t size = little_endian(data.substr(0, kSizeBytes));
  if (data.size() < kSizeBytes || size > data.size() - kSizeBytes) {
    throw SafetensorsFault{"has a header of " + std::to_string(size) + " bytes in " + std::to_string(data.size()),
                           "a header within the file"};
  }
  Json header;
  try {
    header = parse_json(data.substr(kSizeBytes, size));
  } catch (const JsonFault& fault) {
    throw SafetensorsFault{std::string("has a header that is not JSON (") + fault.what() + ")", "a JSON object"};
  }
  Safetensors file;
  const Json* about = header.find("__metadata__");
  if (about == nullptr || about->kind != Json::Kind::object)
    throw SafetensorsFault{"has no __metadata__", "a JSON object with it"};
  file.about = *about;
  const std::string_view body = data.substr(kSizeBytes + size);
  std::size_t end = 0;
  for (const auto& [name, entry] : header.fields) {
    if (name == "__metadata__") continue;
    const SafetensorsTensor tensor = read_tensor(name, entry, body, end);
    end += tensor.bytes.size();
    file.tensors.emplace(name, tensor);
  }
  if (end != body.size())
    throw SafetensorsFault{"has " + std::to_string(body.size()) + " bytes of tensors",
                           std::to_string(end) + ", the end of its last tensor"};
  return file;
}

}  // namespace alterbute
