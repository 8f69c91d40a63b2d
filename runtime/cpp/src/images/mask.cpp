#include "images/mask.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include "alterbute/errors.hpp"
#include "base/text.hpp"
#include "images/colors.hpp"
#include "images/depth.hpp"

namespace alterbute {
namespace {

constexpr int kMinLevel = 8, kOneColor = 16;
constexpr double kSamePicture = 8, kAlmostAll = 0.6, kPhotoGreys = 0.25;
constexpr std::size_t kMostLabels = 256;

std::string percent(double share) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.0f%%", 100 * share);
  return text.data();
}

template <typename Test>
std::size_t count_if(const Array& bytes, Test test) {
  return static_cast<std::size_t>(
      std::count_if(bytes.as<std::uint8_t>(), bytes.as<std::uint8_t>() + bytes.count(), test));
}

template <typename Test>
double share_of(const Array& bytes, Test test) {
  return static_cast<double>(count_if(bytes, test)) / static_cast<double>(bytes.count());
}

std::uint8_t highest(const Array& bytes) {
  return *std::max_element(bytes.as<std::uint8_t>(), bytes.as<std::uint8_t>() + bytes.count());
}
std::uint8_t lowest(const Array& bytes) {
  return *std::min_element(bytes.as<std::uint8_t>(), bytes.as<std::uint8_t>() + bytes.count());
}

// Whether every level is the highest one, of any depth.
bool is_all_ones(const Array& levels) {
  const auto* bytes = levels.as<std::uint8_t>();
  return std::all_of(bytes, bytes + levels.bytes(), [](std::uint8_t byte) { return byte == 255; });
}

Array inverse(const Array& bytes) {
  Array inverted(DType::uint8, bytes.shape());
  std::transform(bytes.as<std::uint8_t>(), bytes.as<std::uint8_t>() + bytes.count(), inverted.as<std::uint8_t>(),
                 [](std::uint8_t byte) { return static_cast<std::uint8_t>(255 - byte); });
  return inverted;
}

// A transparent pixel was not painted: it never counts as marked.
Array paint_only(Array levels, const Levels& mask) {
  for (std::size_t k = 0; mask.alpha && k < levels.count(); ++k)
    if (mask.alpha->as<std::uint8_t>()[k] < 128) levels.as<std::uint8_t>()[k] = 0;
  return levels;
}

bool is_one_color(const Levels& mask) {
  for (int channel = 0; channel < 3; ++channel) {
    int low = 255, high = 0;
    for (std::size_t k = 0; k < mask.count(); ++k) {
      if (mask.alpha->as<std::uint8_t>()[k] != 255) continue;
      low = std::min<int>(low, mask.at(k, channel)), high = std::max<int>(high, mask.at(k, channel));
    }
    if (high - low > kOneColor) return false;
  }
  return true;
}

// Whether the opaque pixels are those of the picture.
bool shows_picture(const Levels& mask, const Picture& picture) {
  const Array own = picture.bits() == 8 ? Array() : to_8_bits(picture.pixels);
  const std::uint8_t* levels = (picture.bits() == 8 ? picture.pixels : own).as<std::uint8_t>();
  std::array<std::uint64_t, 3> sums{};
  std::uint64_t opaque = 0;
  for (std::size_t k = 0; k < mask.count(); ++k) {
    if (mask.alpha->as<std::uint8_t>()[k] != 255) continue;
    ++opaque;
    for (std::size_t channel = 0; channel < 3; ++channel)
      sums[channel] += static_cast<std::uint64_t>(
          std::abs(int{mask.at(k, static_cast<int>(channel))} - int{levels[3 * k + channel]}));
  }
  return opaque > 0 && std::all_of(sums.begin(), sums.end(), [&](std::uint64_t sum) {
           return static_cast<double>(sum) / static_cast<double>(opaque) <= kSamePicture;
         });
}

bool is_black_and_white(const Levels& mask) {
  if (!mask.is_grey) return false;
  std::size_t opaque = 0, light = 0, dark = 0;
  for (std::size_t k = 0; k < mask.count(); ++k) {
    if (mask.alpha->as<std::uint8_t>()[k] != 255) continue;
    const std::uint8_t level = mask.luminance.as<std::uint8_t>()[k];
    ++opaque, light += level >= 240, dark += level <= 15;
  }
  return light > 0 && dark > 0 && static_cast<double>(light + dark) / static_cast<double>(opaque) > 0.95;
}

// Whether the opaque or the transparent part of a mask is the object.
Polarity read_transparency(const Levels& mask, const std::string& param, const Picture& picture) {
  const Array& alpha = *mask.alpha;
  const std::int64_t height = alpha.shape()[0], width = alpha.shape()[1];
  const auto is_open = [&](std::int64_t y, std::int64_t x) { return alpha.as<std::uint8_t>()[y * width + x] < 128; };
  std::int64_t open = 0;
  for (std::int64_t x = 0; x < width; ++x) open += is_open(0, x) + is_open(height - 1, x);
  for (std::int64_t y = 0; y < height; ++y) open += is_open(y, 0) + is_open(y, width - 1);
  const double open_border = static_cast<double>(open) / static_cast<double>(2 * (height + width));
  const bool has_opaque = count_if(alpha, [](std::uint8_t level) { return level == 255; }) > 0;
  if (is_one_color(mask) || shows_picture(mask, picture)) {
    // Paint or a cut-out on an empty layer leaves the border open; an eraser leaves a hole inside the picture.
    if (open_border >= 0.75) return Polarity::opaque;
    if (open_border <= 0.25) return Polarity::alpha;
  } else if (open_border <= 0.25 && !has_opaque) {
    return Polarity::alpha;
  } else if (is_black_and_white(mask)) {
    return Polarity::white;
  }
  const double share = share_of(alpha, [](std::uint8_t level) { return level < 128; });
  throw InputError("the " + param + " is partly transparent (" + percent(share) +
                       " of it), and its object may be the opaque or the transparent part",
                   "a mask of which only one of the two can be meant",
                   "say which: --mask-polarity opaque, or --mask-polarity alpha for an erased object", param,
                   param + "_ambiguous");
}

InputError label_error(const Levels& mask, const std::string& param) {
  const ColorTable table = count_colors(mask);
  return {"the " + param + " has " + std::to_string(table.colors.size()) + " values: " + table.describe(),
          "a mask of two, or the label of the object",
          "choose the label with --mask-value, or use --mask-polarity white if light means object", param,
          param + "_labels"};
}

Array where_color(const Levels& mask, const Rgb& color) {
  Array marked(DType::uint8, mask.luminance.shape());
  for (std::size_t k = 0; k < mask.count(); ++k)
    marked.as<std::uint8_t>()[k] =
        mask.at(k, 0) == color[0] && mask.at(k, 1) == color[1] && mask.at(k, 2) == color[2] ? 255 : 0;
  return marked;
}

// Of two colours the one that is not in the corners is the object; where the corners have both, the one that is not
// black.
Array mark_two(const Levels& mask, const Rgb& one, const Rgb& other) {
  const auto corners = mask.corners();
  const auto in_corners = std::count(corners.begin(), corners.end(), one);
  const auto sum = [](const Rgb& color) { return int{color[0]} + int{color[1]} + int{color[2]}; };
  const bool takes_other = in_corners > 2 || (in_corners == 2 && sum(one) < sum(other));
  return paint_only(where_color(mask, takes_other ? other : one), mask);
}

// The object of a mask without transparency: white, the lighter of two levels, or the colour that is not in the corners.
Array mark_opaque_colors(const Levels& mask, const std::string& param) {
  const ColorTable table = count_colors(mask);
  const std::size_t count = table.colors.size();
  if (mask.is_grey) {
    const std::uint8_t low = lowest(mask.luminance), high = highest(mask.luminance);
    const bool are_labels = count >= 3 && count <= 16 && high < 250;
    if ((low < 128 && high >= 128 && !are_labels) || count == 1) return paint_only(mask.luminance, mask);
    if (count == 2) return mark_two(mask, {low, low, low}, {high, high, high});
    if (count > kMostLabels / 4) return paint_only(mask.luminance, mask);
    throw label_error(mask, param);
  }
  if (count == 2) return mark_two(mask, table.colors[0], table.colors[1]);
  if (auto coverage = project_on_line(mask, table)) return std::move(*coverage);
  if (count <= kMostLabels) throw label_error(mask, param);
  throw InputError("the " + param + " has over " + std::to_string(kMostLabels) + " colours: it looks like a photo",
                   "white on black, or one colour on another",
                   "give the mask, or use --mask-polarity white if light means object", param, param + "_colors");
}

Array mark_value(const Levels& mask, const std::string& param, const std::string& value) {
  const bool is_number =
      value.size() <= 3 && std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; });
  Array marked;
  if (!is_number) {
    marked = where_color(mask, parse_color(value));
  } else if (!mask.is_grey) {
    throw InputError("the " + param + " is in colour, and its value is " + std::to_string(std::atoi(value.c_str())),
                     "a colour, such as #ff0000", "choose one of " + count_colors(mask).describe(), "mask_value",
                     "mask_value_type");
  } else {
    const int label = std::atoi(value.c_str());
    marked = Array(DType::uint8, mask.luminance.shape());
    for (std::size_t k = 0; k < mask.count(); ++k)
      marked.as<std::uint8_t>()[k] = mask.luminance.as<std::uint8_t>()[k] == label ? 255 : 0;
  }
  if (has_any(marked)) return marked;
  throw InputError("no pixel of the " + param + " has the value " + value,
                   "one of " + count_colors(mask).describe(), "choose one of those with --mask-value", "mask_value",
                   "mask_value_absent");
}

Array mark(const Levels& mask, const std::string& param, Polarity polarity, const std::string& value,
           const Picture& picture) {
  if (!value.empty()) return mark_value(mask, param, value);
  const bool has_holes = mask.alpha && lowest(*mask.alpha) < 255;
  if (polarity == Polarity::automatic) {
    polarity = has_holes ? read_transparency(mask, param, picture) : Polarity::white;
    if (polarity == Polarity::white) return mark_opaque_colors(mask, param);
  }
  if (polarity == Polarity::alpha || polarity == Polarity::opaque) {
    const bool is_alpha = polarity == Polarity::alpha;
    if (!mask.alpha) {
      throw InputError("the " + param + " has no transparency, and polarity '" + (is_alpha ? "alpha" : "opaque") +
                           "' is about what is " + (is_alpha ? "transparent" : "opaque"),
                       "a PNG or WebP with transparency",
                       "save the mask with its transparency, or use --mask-polarity white", param,
                       param + "_without_alpha");
    }
    return is_alpha ? inverse(*mask.alpha) : *mask.alpha;
  }
  return paint_only(polarity == Polarity::black ? inverse(mask.luminance) : mask.luminance, mask);
}

void check_shape(const std::string& param, const Array& mask, const Picture& picture) {
  if (mask.shape() == Shape{picture.height(), picture.width()}) return;
  const auto by = [](std::int64_t width, std::int64_t height) {
    return std::to_string(width) + "x" + std::to_string(height);
  };
  throw InputError("the " + param + " is " + by(mask.shape()[1], mask.shape()[0]) + " pixels",
                   (param == "reference_mask" ? "the reference's " : "the photo's ") +
                       by(picture.width(), picture.height()),
                   "draw it on that picture", param, param + "_size");
}

// Coverage stretched to 0..255, but for blend weights, and without its lowest levels.
Array drop_low_levels(const Array& coverage, bool is_soft) {
  const int low = is_soft ? 0 : lowest(coverage), high = is_soft ? 255 : highest(coverage);
  std::array<std::uint8_t, 256> table{};
  // Levels on each side of the object's are stretched by themselves, so that the same pixels are the object's.
  constexpr int kObject = kObjectLevel, kDarkest = kObject - 1;
  for (int level = low; level < 256; ++level) {
    int stretched = 255;
    if (level < kObject)
      stretched = ((level - low) * 2 * kDarkest + (kDarkest - low)) / (2 * std::max(kDarkest - low, 1));
    else if (level < high)
      stretched = kObject + ((level - kObject) * 254 + (high - kObject)) / (2 * std::max(high - kObject, 1));
    table[static_cast<std::size_t>(level)] = static_cast<std::uint8_t>(stretched < kMinLevel ? 0 : stretched);
  }
  Array clean(DType::uint8, coverage.shape());
  std::transform(coverage.as<std::uint8_t>(), coverage.as<std::uint8_t>() + coverage.count(),
                 clean.as<std::uint8_t>(), [&](std::uint8_t level) { return table[level]; });
  return clean;
}

std::vector<std::string> find_warnings(const Array& coverage, bool is_soft) {
  std::vector<std::string> warnings;
  const std::int64_t height = coverage.shape()[0], width = coverage.shape()[1];
  const auto is_object = [](std::uint8_t level) { return level >= kObjectLevel; };
  const double share = share_of(coverage, is_object);
  int corners = 0;
  for (const std::int64_t place : {std::int64_t{0}, width - 1, (height - 1) * width, height * width - 1})
    corners += is_object(coverage.as<std::uint8_t>()[place]);
  if (corners == 4 || share > kAlmostAll) {
    warnings.push_back("the mask covers " + percent(share) + " of the photo and " +
                       (corners == 4 ? "all four corners" : "most of the photo") +
                       ": it looks inverted; if it is, choose another --mask-polarity");
  }
  const double greys = share_of(coverage, [](std::uint8_t level) { return level >= 32 && level < 224; });
  if (greys > kPhotoGreys && !is_soft) {
    warnings.push_back(percent(greys) +
                       " of the mask is grey, neither marked nor unmarked: it looks like a photo; look at it with "
                       "`alterbute mask`");
  }
  return warnings;
}

}  // namespace

ReadMask read_mask(const ImageView& mask, const Picture& photo, const MaskOptions& options) {
  const bool is_soft = options.kind == MaskKind::soft;
  Array coverage;
  if (mask.pixels == nullptr) {
    if (!photo.alpha || is_all_ones(*photo.alpha)) {
      throw InputError("there is no mask", "a picture of the photo's size with the object in white",
                       "give one with --mask, --box or --polygon, or as the `mask` argument", "mask", "mask_missing");
    }
    coverage = to_8_bits(*photo.alpha);
  } else {
    const Levels levels = decode_levels(mask, "mask");
    check_shape("mask", levels.luminance, photo);
    coverage = mark(levels, "mask", options.polarity, options.value, photo);
  }
  if (highest(coverage) < kObjectLevel) throw empty_error("mask", highest(coverage));
  if (lowest(coverage) >= kObjectLevel) {
    throw InputError("the mask is full: it marks every pixel to edit", "some pixels to keep",
                     "mark only the object; if it marks the background, invert it with --mask-polarity", "mask",
                     "mask_full");
  }
  return {drop_low_levels(coverage, is_soft), find_warnings(coverage, is_soft)};
}

Array read_binary(const ImageView& mask, const std::string& param, const Picture& picture, Polarity polarity) {
  const Levels levels = decode_levels(mask, param);
  check_shape(param, levels.luminance, picture);
  return mark_from(mark(levels, param, polarity, "", picture), kObjectLevel);
}

Array mark_from(const Array& levels, std::uint8_t least) {
  Array marked(DType::uint8, levels.shape());
  std::transform(levels.as<std::uint8_t>(), levels.as<std::uint8_t>() + levels.count(), marked.as<std::uint8_t>(),
                 [least](std::uint8_t level) { return level >= least ? std::uint8_t{255} : std::uint8_t{0}; });
  return marked;
}

bool has_any(const Array& mask) {
  return count_if(mask, [](std::uint8_t byte) { return byte != 0; }) > 0;
}

InputError empty_error(const std::string& param, int highest) {
  const std::string detail = highest != 0 ? " (its highest level is " + std::to_string(highest) + " of 255)" : "";
  return {"the " + param + " is empty: it marks no object" + detail, "an object in white, or on a transparent layer",
          "mark the object, or choose --mask-polarity white, black, opaque or alpha, or a label with --mask-value",
          param, param + "_empty"};
}

}  // namespace alterbute
