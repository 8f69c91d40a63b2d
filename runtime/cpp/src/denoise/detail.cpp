#include "denoise/detail.hpp"

#include <algorithm>

#include "encode/tokenizer.hpp"

namespace alterbute {

PasteRule choose_paste(const Request& request, const Manifest& manifest, bool is_aligned) {
  const std::set<std::string> names = named_attributes(request.prompt, manifest.attributes);
  const bool may_move = !is_aligned || names.count("shape") != 0;
  if (request.detail == Detail::model || (request.detail == Detail::automatic && may_move)) return {Detail::model, -1};
  const auto& kept = manifest.detail.attributes;
  const bool keeps_all = std::all_of(names.begin(), names.end(), [&](const std::string& name) {
    return std::find(kept.begin(), kept.end(), name) != kept.end();
  });
  return {Detail::photo, keeps_all ? manifest.detail.threshold : 0};
}

}  // namespace alterbute
