// The tightest box around a mask's object; geometry that is shared by intake and windows.
#pragma once

#include "images/picture.hpp"

namespace alterbute {

// mask: [H,W] uint8, above 0 = object; not empty.
Box object_box(const Array& mask);

}  // namespace alterbute
