// The different colours of a mask: counted, named, and projected on the line between two of them; the Python
// `masks.colors`.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "images/picture.hpp"

namespace alterbute {

using Rgb = std::array<std::uint8_t, 3>;

// A decoded mask.
struct Levels {
  Array luminance;             // [H,W] uint8
  std::optional<Array> alpha;  // [H,W] uint8
  std::optional<Array> colors;  // [H,W,3] uint8, where not all pixels are grey
  bool is_grey = true;

  std::size_t count() const { return luminance.count(); }
  std::uint8_t at(std::size_t pixel, int channel) const {
    return is_grey ? luminance.as<std::uint8_t>()[pixel]
                   : colors->as<std::uint8_t>()[3 * pixel + static_cast<std::size_t>(channel)];
  }
  // Top left, top right, bottom left, bottom right.
  std::array<Rgb, 4> corners() const;
};

// The colours of a mask, the most frequent first; at most 4096.
struct ColorTable {
  std::vector<Rgb> colors;
  std::vector<double> shares;
  bool has_labels = false;  // colours are grey levels

  std::string describe() const;
};

Levels decode_levels(const ImageView& source, const std::string& param);
// "#rrggbb". Throws InputError.
Rgb parse_color(const std::string& text);
ColorTable count_colors(const Levels& mask);
// Coverage [H,W] uint8 of a mask that is painted in one colour on another; none if it has other colours.
std::optional<Array> project_on_line(const Levels& mask, const ColorTable& table);

}  // namespace alterbute
