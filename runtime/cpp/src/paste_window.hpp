// The paste of an edited window at the photo's resolution; the Python `alterbute.paste_window`.
#pragma once

#include "backends/engines.hpp"
#include "encode/encoder.hpp"

namespace alterbute {

// Draws an edited window [S,S,3] at the photo's resolution, and blends it by the window's alpha: [h,w,3] in the photo's
// own depth and colour space. The graph works in sRGB; of a photo of another space (null is sRGB) the change that the
// graph makes is converted back and added, so that colours outside sRGB are kept where the edit does not change them.
// roundtrip: the decoded latent of the photo's own window, or `edited` where the rule needs none.
Array paste_window(const Engines& engines, const CroppedWindow& window, const ColorSpace* space, double threshold,
                   const Array& edited, const Array& roundtrip);

}  // namespace alterbute
