// A safetensors file of F32 and I64 tensors: the size of a JSON header as 8 little-endian bytes, the header, the
// tensors.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "bundle/json.hpp"

namespace alterbute {

// The file is not what it has to be: what was seen, and what was expected.
struct SafetensorsFault {
  std::string seen, expected;
};

struct SafetensorsTensor {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string_view bytes;  // of the file that was read
};

struct Safetensors {
  Json about;  // `__metadata__`
  std::map<std::string, SafetensorsTensor> tensors;
};

// Checks that the tensors fill the file, each starting where the last one ended. Throws SafetensorsFault.
Safetensors read_safetensors(std::string_view data);

}  // namespace alterbute
