// The manifest's entries of prebuilt engines. No engine is run here; the entries are checked as Python checks them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bundle/json.hpp"
#include "bundle/manifest.hpp"

namespace alterbute {

struct ShapeRange {
  std::vector<std::int64_t> min, opt, max;
};

// The fields of the Python `Engine` that have rules beyond their types.
struct EngineEntry {
  std::string graph, file, recipe, version, cuda, driver, source, onnx;
  std::vector<std::string> capabilities;
  std::vector<Named<ShapeRange>> profiles;
  Named<std::string> weights;
  std::vector<std::string> timing_cache;  // one or none
};

bool is_sha256(std::string_view digits);

// Both throw typed::KeyFault.
std::vector<EngineEntry> read_engines(const Json& value, const std::string& key);
void check_engines(const std::vector<EngineEntry>& engines, const Manifest& manifest);

}  // namespace alterbute
