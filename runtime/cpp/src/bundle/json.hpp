// JSON text to plain values, as every parser reads it: what parsers disagree about is refused, in the same way as by the
// Python module `alterbute.bundle.strict_json`. Keys keep their order.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace alterbute {

struct JsonFault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Json {
  enum class Kind { null, boolean, integer, real, string, array, object };

  Kind kind = Kind::null;
  bool flag = false;
  double number = 0;  // of an integer or a real
  std::string text;   // a string's bytes, or an integer's digits
  std::vector<Json> items;
  std::vector<std::pair<std::string, Json>> fields;

  // The value of a key; null when this is no object or has no such key.
  const Json* find(std::string_view name) const;
};

constexpr std::size_t kMaxJsonDepth = 64;

// One value, of at most `max_depth` containers inside one another. Throws JsonFault with the reason why it is refused.
Json parse_json(std::string_view text, std::size_t max_depth = kMaxJsonDepth);

// As Python's `json.dumps`: one line, everything beyond ASCII escaped.
std::string dump_json(const Json& value);

}  // namespace alterbute
