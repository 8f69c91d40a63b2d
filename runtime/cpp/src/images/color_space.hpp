// Colour spaces other than sRGB, which the model sees; the Python `alterbute.images.color.convert`.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "base/array.hpp"

namespace alterbute {

// The space of an RGB ICC profile. Used by any number of threads.
class ColorSpace {
 public:
  // Throws InputError: the profile is damaged, works in one direction only, or is not RGB; or this build has no
  // littlecms.
  ColorSpace(const void* profile, std::size_t size, const std::string& param);
  ~ColorSpace();
  ColorSpace(const ColorSpace&) = delete;
  ColorSpace& operator=(const ColorSpace&) = delete;

  // Whether it is sRGB, in whatever form, within a level: then pixels need no conversion.
  bool is_srgb() const;

  // [h,w,3] uint8, relative colorimetric; colours outside the target's gamut are clipped.
  Array to_srgb(const Array& pixels) const;
  Array from_srgb(const Array& pixels) const;

 private:
  struct Transforms;
  std::unique_ptr<const Transforms> transforms_;
};

// Adds the change from `before` to `after` to the photo, clipped; all [h,w,3] uint8. A conversion to sRGB and back
// rounds and clips: by adding the difference of two such pictures, an unchanged pixel keeps its value, and a colour
// outside sRGB what is beyond it.
Array add_change(const Array& photo, const Array& before, const Array& after);

}  // namespace alterbute
