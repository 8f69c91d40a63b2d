// Where an edited object's detail comes from: the photo, or the model; the Python `alterbute.detail`.
#pragma once

#include "alterbute/alterbute.hpp"
#include "bundle/manifest.hpp"

namespace alterbute {

struct PasteRule {
  Detail detail;     // `photo` or `model`
  double threshold;  // T in [0,1] for `photo`; -1 for `model`
};

// is_aligned: the edit has the object where the photo has it: no box mask, and no reference of another object. Throws
// InputError: the detail would be the model's, which has 8 bits, and the photo has more.
PasteRule choose_paste(const Request& request, const Manifest& manifest, bool is_aligned, int photo_bits);

}  // namespace alterbute
