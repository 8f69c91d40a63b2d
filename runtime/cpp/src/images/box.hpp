// A rectangle of whole pixels.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/array.hpp"

namespace alterbute {

// Pixels top <= y < bottom, left <= x < right; may reach beyond the picture.
struct Box {
  std::int64_t top, left, bottom, right;

  std::int64_t height() const { return bottom - top; }
  std::int64_t width() const { return right - left; }
  std::int64_t longer() const { return std::max(height(), width()); }
  // The part of the box that lies in a picture of this size.
  Box inside(std::int64_t picture_height, std::int64_t picture_width) const {
    return {std::max(top, std::int64_t{0}), std::max(left, std::int64_t{0}), std::min(bottom, picture_height),
            std::min(right, picture_width)};
  }
};

// The tightest box around the pixels above 0 of a mask [H,W] uint8, which is not empty.
Box object_box(const Array& mask);

}  // namespace alterbute
