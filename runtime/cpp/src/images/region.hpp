// The masks of an edit: what is the object, what may change, and the windows of distant objects; the Python `Region`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "images/picture.hpp"
#include "images/pieces.hpp"

namespace alterbute {

// All masks of a picture, [H,W] uint8 each.
struct Region {
  Array object;   // 255 = object: the pixels that the identity encoder sees
  Array edit;     // coverage of what may change, or blend weights for kind `soft`; 0 = keep
  Array protect;  // above 0 = never changed
  MaskKind kind = MaskKind::precise;
  std::optional<int> dilate;
  int rim = 0;
  std::optional<Pieces> pieces;  // of the mask, before anything is protected
  std::vector<std::string> warnings;
};

Region load_region(const ImageView& mask, const Picture& photo, const MaskOptions& options);
// The region of a picture that is encoded and not edited, such as a reference.
Region whole_region(const Array& mask);
// The regions that are edited in windows of their own: one, or one for each of several distant objects.
std::vector<Region> split_region(const Region& region, double margin, std::int64_t largest_side);

}  // namespace alterbute
