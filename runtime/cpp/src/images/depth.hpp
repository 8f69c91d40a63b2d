// Levels of 16 bits, cut to 8; the Python `alterbute.images.photo.to_8_bits`.
#pragma once

#include "base/array.hpp"

namespace alterbute {

// Levels in [0,255], rounded; the array itself where it has 8 bits.
Array to_8_bits(Array levels);
// Opacity in 8 bits; a pixel that is visible at all stays visible.
Array visible(Array alpha);
// The upper 8 bits, which are what levels of a mask of 16 bits mean.
Array upper_bits(Array levels);

}  // namespace alterbute
