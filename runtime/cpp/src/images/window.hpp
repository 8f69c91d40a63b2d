// The boxes that are cut out of photo and reference for the model, and the edited windows put back.
#pragma once

#include "images/box.hpp"
#include "images/picture.hpp"

namespace alterbute {

// The square that the model sees of the photo: `margin` times the object, and at least `rim` pixels around it, kept in
// the photo if it fits.
Box photo_box(const Array& mask, double margin, int rim);
// The square around a reference's object for the identity encoder, centred on it.
Box identity_box(const Array& mask);
// The square of the reference that puts its object where the photo window has its own.
Box reference_box(const Array& reference_mask, const Array& photo_mask, const Box& box);

// A box of pixels [h,w,3] or [h,w] of any dtype; where it reaches beyond the picture, the nearest pixel is repeated.
Array cut(const Array& pixels, const Box& box);

// A copy of the photo, and an alpha over all of it that is 0.
void start_result(const Picture& photo, Image& image, Image& touched);
// Puts an edited window into the copy; a pixel with alpha 0 is never written.
void paste_back(const Box& box, const Array& pasted, const Array& alpha, Image& image, Image& touched);

}  // namespace alterbute
