#include "denoise/detail.hpp"

#include <algorithm>

#include "encode/tokenizer.hpp"

namespace alterbute {

PasteRule choose_paste(const Request& request, const Manifest& manifest, bool is_aligned, int photo_bits) {
  const std::set<std::string> names = named_attributes(request.prompt, manifest.attributes);
  const bool may_move = !is_aligned || names.count("shape") != 0;
  if (request.detail == Detail::model || (request.detail == Detail::automatic && may_move)) {
    if (photo_bits > 8) {
      throw InputError("the photo has " + std::to_string(photo_bits) +
                           " bits, and this edit takes its detail from the model, which has 8",
                       "detail = photo, or a photo of 8 bits", "choose detail = photo, or save the photo with 8 bits",
                       "detail", "detail_depth");
    }
    return {Detail::model, -1};
  }
  const auto& kept = manifest.detail.attributes;
  const bool keeps_all = std::all_of(names.begin(), names.end(), [&](const std::string& name) {
    return std::find(kept.begin(), kept.end(), name) != kept.end();
  });
  return {Detail::photo, keeps_all ? manifest.detail.threshold : 0};
}

}  // namespace alterbute
