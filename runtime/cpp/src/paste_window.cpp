#include "paste_window.hpp"

namespace alterbute {

Array paste_window(const Engines& engines, const CroppedWindow& window, const ColorSpace* space, double threshold,
                   const Array& edited, const Array& roundtrip) {
  const Array converted = space == nullptr ? Array() : space->to_srgb(window.pixels);
  const Array& before = space == nullptr ? window.pixels : converted;
  Array limit = make_array<float>({1});
  *limit.as<float>() = static_cast<float>(threshold);
  const std::string graph = before.dtype() == DType::uint16 ? "paste16" : "paste";
  Arrays out = engines.run(graph, {{"edited", edited.view()},
                                   {"roundtrip", roundtrip.view()},
                                   {"object_mask", window.images.object_mask.view()},
                                   {"threshold", limit.view()},
                                   {"photo", before.view()},
                                   {"alpha", window.images.alpha.view()}});
  Array after = take(out, graph, "image");
  if (space == nullptr) return after;
  return add_change(window.pixels, space->from_srgb(before), space->from_srgb(after));
}

}  // namespace alterbute
