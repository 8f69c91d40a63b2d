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
};

// The tightest box around the pixels above 0 of a mask [H,W] uint8, which is not empty.
Box object_box(const Array& mask);

}  // namespace alterbute
