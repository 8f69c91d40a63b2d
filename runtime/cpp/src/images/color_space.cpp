#include "images/color_space.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "alterbute/errors.hpp"

#ifdef ALTERBUTE_HAS_LCMS2
#include <lcms2.h>
#endif

namespace alterbute {

#ifdef ALTERBUTE_HAS_LCMS2

namespace {

#include "images/srgb_profile.inc"

// Python leaves larger ones out.
constexpr std::size_t kMaxProfileBytes = 1U << 20;

using Profile = std::unique_ptr<void, decltype(&cmsCloseProfile)>;
using Transform = std::unique_ptr<void, decltype(&cmsDeleteTransform)>;

Profile open_profile(const void* data, std::size_t size) {
  return {cmsOpenProfileFromMem(data, static_cast<cmsUInt32Number>(size)), cmsCloseProfile};
}

Transform make_transform(const Profile& from, const Profile& to) {
  return {cmsCreateTransform(from.get(), TYPE_RGB_8, to.get(), TYPE_RGB_8, INTENT_RELATIVE_COLORIMETRIC, 0),
          cmsDeleteTransform};
}

Array convert(const Transform& transform, const Array& pixels) {
  Array converted(DType::uint8, pixels.shape());
  cmsDoTransform(transform.get(), pixels.as<std::uint8_t>(), converted.as<std::uint8_t>(),
                 static_cast<cmsUInt32Number>(pixels.count() / 3));
  return converted;
}

[[noreturn]] void refuse(const std::string& param, const std::string& reason) {
  throw InputError("the " + param + " has a colour profile that cannot be converted from and to (" + reason + ")",
                   "sRGB, Display P3, Adobe RGB or another RGB working space", "convert it to one of them", param,
                   param + "_profile");
}

}  // namespace

struct ColorSpace::Transforms {
  Transform to_srgb, from_srgb;
};

ColorSpace::ColorSpace(const void* profile, std::size_t size, const std::string& param) {
  if (size > kMaxProfileBytes) refuse(param, "it has more than " + std::to_string(kMaxProfileBytes) + " bytes");
  const Profile own = open_profile(profile, size), srgb = open_profile(kSrgbProfile, sizeof kSrgbProfile);
  if (own == nullptr || srgb == nullptr) refuse(param, "cannot open profile from string");
  transforms_.reset(new Transforms{make_transform(own, srgb), make_transform(srgb, own)});
  if (transforms_->to_srgb == nullptr || transforms_->from_srgb == nullptr) refuse(param, "cannot build transform");
}

bool ColorSpace::is_srgb() const {
  // Colours all over the cube, the same as Python's.
  constexpr std::array<int, 9> kSteps = {0, 32, 64, 96, 128, 159, 191, 223, 255};
  Array probe(DType::uint8, {81, 9, 3});
  std::uint8_t* to = probe.as<std::uint8_t>();
  for (const int red : kSteps)
    for (const int green : kSteps)
      for (const int blue : kSteps)
        for (const int level : {red, green, blue}) *to++ = static_cast<std::uint8_t>(level);
  const Array shown = to_srgb(probe);
  for (std::size_t k = 0; k < probe.count(); ++k)
    if (std::abs(shown.as<std::uint8_t>()[k] - probe.as<std::uint8_t>()[k]) > 1) return false;
  return true;
}

Array ColorSpace::to_srgb(const Array& pixels) const { return convert(transforms_->to_srgb, pixels); }
Array ColorSpace::from_srgb(const Array& pixels) const { return convert(transforms_->from_srgb, pixels); }

#else

struct ColorSpace::Transforms {};

ColorSpace::ColorSpace(const void* /*profile*/, std::size_t /*size*/, const std::string& param) {
  throw InputError(
      "the " + param + " has a colour profile, and this build has no littlecms to convert it",
      "pixels in sRGB, without a profile",
      "build with littlecms, convert the pixels to sRGB, or choose Color::as_srgb, which reads the numbers as sRGB",
      param, param + "_profile");
}

bool ColorSpace::is_srgb() const { return false; }
Array ColorSpace::to_srgb(const Array& pixels) const { return pixels; }
Array ColorSpace::from_srgb(const Array& pixels) const { return pixels; }

#endif

ColorSpace::~ColorSpace() = default;

Array add_change(const Array& photo, const Array& before, const Array& after) {
  Array changed(DType::uint8, photo.shape());
  for (std::size_t k = 0; k < changed.count(); ++k) {
    const int level = photo.as<std::uint8_t>()[k] + after.as<std::uint8_t>()[k] - before.as<std::uint8_t>()[k];
    changed.as<std::uint8_t>()[k] = static_cast<std::uint8_t>(std::clamp(level, 0, 255));
  }
  return changed;
}

}  // namespace alterbute
