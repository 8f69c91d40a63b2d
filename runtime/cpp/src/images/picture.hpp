// The caller's pictures, checked.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "alterbute/alterbute.hpp"
#include "base/array.hpp"
#include "images/color_space.hpp"

namespace alterbute {

// A checked picture: [H,W,3] RGB, and [H,W] opacity where it has any, both uint8 or both uint16.
struct Picture {
  Array pixels;
  std::optional<Array> alpha;
  std::shared_ptr<const ColorSpace> space;  // of `pixels`; null is sRGB

  std::int64_t height() const { return pixels.shape()[0]; }
  std::int64_t width() const { return pixels.shape()[1]; }
  int bits() const { return pixels.dtype() == DType::uint16 ? 16 : 8; }
};

// The picture whose object gives the identity, and its object: [H,W,3] uint8 sRGB, [H,W] uint8. What lies under its
// transparent pixels is grey.
struct ReferencePicture {
  Picture picture;
  Array mask;
};

// The pixels of a picture of any role; its profile is not looked at. Throws InputError.
Picture load_picture(const ImageView& image, const std::string& param);
// The photo to edit, whose colours can be converted to sRGB and back. Throws InputError.
Picture load_photo(const ImageView& image, Color color);
ReferencePicture load_reference(const Reference& reference, Polarity polarity, Color color);

}  // namespace alterbute
