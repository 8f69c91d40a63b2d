// The caller's pictures, checked, and the boxes that are cut out of them for the model.
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

// All masks of a picture, [H,W] uint8 each; the Python `Region`.
struct Region {
  Array object;   // 255 = object: the pixels that the identity encoder sees
  Array edit;     // what is edited: 255, or blend weights if `is_soft`; 0 = keep
  Array protect;  // above 0 = never changed
  std::optional<int> dilate;
  bool is_soft = false;
};

struct ReferencePicture {
  Array pixels, mask;
};

// Pixels top <= y < bottom, left <= x < right; may reach beyond the picture.
struct Box {
  std::int64_t top, left, bottom, right;

  std::int64_t height() const { return bottom - top; }
  std::int64_t width() const { return right - left; }
};

Picture load_picture(const ImageView& image, const std::string& param);
Region load_region(const ImageView& mask, const Picture& photo, const MaskOptions& options);
ReferencePicture load_reference(const Reference& reference, Polarity polarity);
// The region of a picture that is encoded and not edited, such as a reference.
Region whole_region(const Array& mask);

// The square that the model sees of the photo: `margin` times the object, kept in the photo if it fits.
Box photo_box(const Array& mask, double margin);
// The square around a reference's object for the identity encoder, centred on it.
Box identity_box(const Array& mask);
// The square of the reference that puts its object where the photo window has its own.
Box reference_box(const Array& reference_mask, const Array& photo_mask, const Box& box);

// The box's pixels [h,w,3]; where it reaches beyond the picture, the nearest pixel is repeated.
Array cut(const Array& pixels, const Box& box);
// Puts the edited window into a copy of the photo; a pixel with alpha 0 is never written. `touched` is alpha over the
// whole photo.
Image paste_back(const Picture& photo, const Box& box, const Array& pasted, const Array& alpha, Image& touched);

}  // namespace alterbute
