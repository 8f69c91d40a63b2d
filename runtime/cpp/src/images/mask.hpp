// What a mask marks: coverage of each pixel, by polarity, label, or the mask's content; the Python `masks.marking` and
// `masks.read_mask`.
#pragma once

#include <string>
#include <vector>

#include "images/picture.hpp"

namespace alterbute {

constexpr std::uint8_t kObjectLevel = 128;  // coverage from which a pixel is the object's

struct ReadMask {
  Array levels;  // [H,W] uint8 coverage
  std::vector<std::string> warnings;
};

// The mask of a photo's object; without pixels, the opaque part of a photo with transparency. Throws InputError.
ReadMask read_mask(const ImageView& mask, const Picture& photo, const MaskOptions& options);
// A mask without soft edges, [H,W] uint8, 255 = marked; may be empty. Throws InputError.
Array read_binary(const ImageView& mask, const std::string& param, const Picture& picture, Polarity polarity);

// [H,W] uint8, 255 where a level is at least `least`.
Array mark_from(const Array& levels, std::uint8_t least);
bool has_any(const Array& mask);
InputError empty_error(const std::string& param, int highest = 0);

}  // namespace alterbute
