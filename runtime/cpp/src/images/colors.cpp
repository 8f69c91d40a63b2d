#include "images/colors.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "alterbute/errors.hpp"
#include "base/text.hpp"
#include "images/depth.hpp"

namespace alterbute {
namespace {

constexpr std::size_t kListed = 8, kMostCounted = 4096;
constexpr float kOffLine = 48;

std::string hex(const Rgb& color) {
  std::array<char, 8> text{};
  std::snprintf(text.data(), text.size(), "#%02x%02x%02x", color[0], color[1], color[2]);
  return text.data();
}

// ITU-R BT.601, in the fixed-point form of Pillow.
std::uint8_t luminance_of(const std::uint8_t* rgb) {
  return static_cast<std::uint8_t>((rgb[0] * 19595U + rgb[1] * 38470U + rgb[2] * 7471U + 0x8000U) >> 16U);
}

// The codes with a count, the most frequent first, equal ones rising.
std::vector<std::size_t> order_by_count(const std::vector<std::size_t>& counts) {
  std::vector<std::size_t> order(counts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t one, std::size_t other) { return counts[one] > counts[other]; });
  return order;
}

}  // namespace

std::array<Rgb, 4> Levels::corners() const {
  const auto height = static_cast<std::size_t>(luminance.shape()[0]), width = static_cast<std::size_t>(luminance.shape()[1]);
  const auto color = [&](std::size_t pixel) { return Rgb{at(pixel, 0), at(pixel, 1), at(pixel, 2)}; };
  return {color(0), color(width - 1), color((height - 1) * width), color(height * width - 1)};
}

std::string ColorTable::describe() const {
  std::vector<std::string> listed;
  for (std::size_t k = 0; k < std::min(colors.size(), kListed); ++k) {
    std::array<char, 32> share{};
    std::snprintf(share.data(), share.size(), " %.1f%%", 100 * shares[k]);
    const std::string name = has_labels ? "value " + std::to_string(colors[k][0]) + " (" + hex(colors[k]) + ")" : hex(colors[k]);
    listed.push_back(name + share.data());
  }
  const std::size_t rest = colors.size() - listed.size();
  return text::join(listed, ", ") + (rest > 0 ? " and " + std::to_string(rest) + " more" : "");
}

Levels decode_levels(const ImageView& source, const std::string& param) {
  Picture picture = load_picture(source, param);
  Levels levels;
  levels.luminance = Array(DType::uint8, {picture.height(), picture.width()});
  if (picture.alpha) levels.alpha = upper_bits(std::move(*picture.alpha));
  picture.pixels = upper_bits(std::move(picture.pixels));
  const std::uint8_t* rgb = picture.pixels.as<std::uint8_t>();
  for (std::size_t k = 0; k < levels.count() && levels.is_grey; ++k)
    levels.is_grey = rgb[3 * k] == rgb[3 * k + 1] && rgb[3 * k] == rgb[3 * k + 2];
  for (std::size_t k = 0; k < levels.count(); ++k)
    levels.luminance.as<std::uint8_t>()[k] = levels.is_grey ? rgb[3 * k] : luminance_of(rgb + 3 * k);
  if (!levels.is_grey) levels.colors = std::move(picture.pixels);
  return levels;
}

Rgb parse_color(const std::string& text) {
  std::string digits = text::encode(text::python_strip(text::decode(text).value_or(U"")));
  if (!digits.empty() && digits[0] == '#') digits.erase(0, 1);
  const auto is_digit = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  };
  if (digits.size() != 6 || !std::all_of(digits.begin(), digits.end(), is_digit)) {
    throw InputError("the mask value is " + text::python_repr(text), "a number 0..255, or a colour such as #ff0000",
                     "choose a value of the mask", "mask_value", "mask_value_type");
  }
  const unsigned long code = std::strtoul(digits.c_str(), nullptr, 16);
  return {static_cast<std::uint8_t>(code >> 16U), static_cast<std::uint8_t>(code >> 8U & 255U),
          static_cast<std::uint8_t>(code & 255U)};
}

ColorTable count_colors(const Levels& mask) {
  const auto pixels = static_cast<double>(mask.count());
  ColorTable table;
  table.has_labels = mask.is_grey;
  std::vector<std::size_t> found, counts;
  if (mask.is_grey) {
    std::vector<std::size_t> of_level(256);
    for (std::size_t k = 0; k < mask.count(); ++k) ++of_level[mask.luminance.as<std::uint8_t>()[k]];
    for (std::size_t level = 0; level < 256; ++level)
      if (of_level[level] != 0) found.push_back(level * 0x10101U), counts.push_back(of_level[level]);
  } else {
    std::vector<std::uint32_t> of_code(std::size_t{1} << 24U);
    for (std::size_t k = 0; k < mask.count(); ++k)
      ++of_code[std::size_t{mask.at(k, 0)} << 16U | std::size_t{mask.at(k, 1)} << 8U | mask.at(k, 2)];
    for (std::size_t code = 0; code < of_code.size() && found.size() < kMostCounted; ++code)
      if (of_code[code] != 0) found.push_back(code), counts.push_back(of_code[code]);
  }
  for (const std::size_t at : order_by_count(counts)) {
    table.colors.push_back({static_cast<std::uint8_t>(found[at] >> 16U),
                            static_cast<std::uint8_t>(found[at] >> 8U & 255U),
                            static_cast<std::uint8_t>(found[at] & 255U)});
    table.shares.push_back(static_cast<double>(counts[at]) / pixels);
  }
  return table;
}

std::optional<Array> project_on_line(const Levels& mask, const ColorTable& table) {
  std::array<double, 3> ground{}, paint{}, axis{};
  const auto corners = mask.corners();
  for (std::size_t channel = 0; channel < 3; ++channel) {
    std::array<double, 4> levels{};
    for (std::size_t corner = 0; corner < 4; ++corner) levels[corner] = corners[corner][channel];
    std::sort(levels.begin(), levels.end());
    ground[channel] = (levels[1] + levels[2]) / 2;
  }
  double farthest = -1;
  for (std::size_t k = 0; k < table.colors.size(); ++k) {
    if (table.shares[k] <= 0.0005) continue;
    double distance = 0;
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const double offset = table.colors[k][channel] - ground[channel];
      distance += offset * offset;
    }
    if (distance <= farthest) continue;
    farthest = distance;
    for (std::size_t channel = 0; channel < 3; ++channel) paint[channel] = table.colors[k][channel];
  }
  if (farthest < 0) return std::nullopt;
  double length = 0;
  for (std::size_t channel = 0; channel < 3; ++channel) {
    axis[channel] = paint[channel] - ground[channel];
    length += axis[channel] * axis[channel];
  }
  if (length < 32 * 32) return std::nullopt;
  Array coverage(DType::uint8, mask.luminance.shape());
  std::size_t off_line = 0;
  const auto whole = static_cast<float>(length);
  for (std::size_t k = 0; k < mask.count(); ++k) {
    float along = 0, norm = 0;
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const float offset =
          static_cast<float>(mask.at(k, static_cast<int>(channel))) - static_cast<float>(ground[channel]);
      along += offset * static_cast<float>(axis[channel]);
      norm += offset * offset;
    }
    const float share = along / whole;
    off_line += norm - share * share * whole > kOffLine * kOffLine;
    coverage.as<std::uint8_t>()[k] =
        static_cast<std::uint8_t>(std::nearbyint(std::min(std::max(share, 0.0F), 1.0F) * 255.0F));
  }
  if (static_cast<double>(off_line) / static_cast<double>(mask.count()) > 0.002) return std::nullopt;
  return coverage;
}

}  // namespace alterbute
