#include "images/depth.hpp"

#include <algorithm>
#include <utility>

namespace alterbute {
namespace {

std::uint8_t rounded(std::uint16_t level) { return static_cast<std::uint8_t>((level + 128U) / 257U); }

template <typename Convert>
Array converted(Array levels, Convert convert) {
  if (levels.dtype() != DType::uint16) return levels;
  Array bytes(DType::uint8, levels.shape());
  const auto* from = levels.as<std::uint16_t>();
  std::transform(from, from + levels.count(), bytes.as<std::uint8_t>(), convert);
  return bytes;
}

}  // namespace

Array to_8_bits(Array levels) { return converted(std::move(levels), rounded); }

Array visible(Array alpha) {
  return converted(std::move(alpha), [](std::uint16_t level) {
    return std::max(rounded(level), level > 0 ? std::uint8_t{1} : std::uint8_t{0});
  });
}

Array upper_bits(Array levels) {
  return converted(std::move(levels), [](std::uint16_t level) { return static_cast<std::uint8_t>(level >> 8U); });
}

}  // namespace alterbute
