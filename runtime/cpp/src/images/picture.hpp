// The caller's pictures, checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "alterbute/alterbute.hpp"
#include "base/array.hpp"

namespace alterbute {

// A checked picture: [H,W,3] uint8 RGB, and [H,W] uint8 opacity where it has any.
struct Picture {
  Array pixels;
  std::optional<Array> alpha;

  std::int64_t height() const { return pixels.shape()[0]; }
  std::int64_t width() const { return pixels.shape()[1]; }
};

struct ReferencePicture {
  Array pixels, mask;
};

Picture load_picture(const ImageView& image, const std::string& param);
ReferencePicture load_reference(const Reference& reference, Polarity polarity);

}  // namespace alterbute
