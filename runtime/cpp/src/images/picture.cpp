#include "images/picture.hpp"

#include <algorithm>

#include "alterbute/errors.hpp"
#include "images/window.hpp"

namespace alterbute {
namespace {

constexpr std::int64_t kMaxPixels = 24'000'000, kMinSide = 32, kMaxSide = 8192, kReferenceSide = 1024;
constexpr int kMaxDilate = 63;

std::string by(std::int64_t width, std::int64_t height) { return std::to_string(width) + "x" + std::to_string(height); }

void check_size(std::int64_t width, std::int64_t height, const std::string& param) {
  if (std::min(width, height) >= kMinSide && std::max(width, height) <= kMaxSide && width * height <= kMaxPixels)
    return;
  throw InputError("the " + param + " is " + by(width, height) + " pixels",
                   "sides of " + std::to_string(kMinSide) + " to " + std::to_string(kMaxSide) + " and at most " +
                       std::to_string(kMaxPixels / 1'000'000) + " megapixels",
                   "crop or resize it", param, param + "_size_out_of_limits");
}

template <typename Change>
Array map_bytes(const Array& bytes, Change change) {
  Array changed(DType::uint8, bytes.shape());
  std::transform(bytes.as<std::uint8_t>(), bytes.as<std::uint8_t>() + bytes.count(), changed.as<std::uint8_t>(),
                 change);
  return changed;
}

template <typename Test>
Array as_mask(const Array& bytes, Test test) {
  return map_bytes(bytes, [&](std::uint8_t byte) { return test(byte) ? std::uint8_t{255} : std::uint8_t{0}; });
}

bool any(const Array& mask) {
  return std::any_of(mask.as<std::uint8_t>(), mask.as<std::uint8_t>() + mask.count(),
                     [](std::uint8_t byte) { return byte != 0; });
}
bool all(const Array& mask) {
  return std::all_of(mask.as<std::uint8_t>(), mask.as<std::uint8_t>() + mask.count(),
                     [](std::uint8_t byte) { return byte != 0; });
}

InputError size_error(const std::string& param, const Array& mask, const std::string& expected) {
  return {"the " + param + " is " + by(mask.shape()[1], mask.shape()[0]) + " pixels", expected,
          "draw it on that picture", param, param + "_size"};
}

InputError empty_error(const std::string& param) {
  return {"the " + param + " is empty: it marks no object", "an object in white, or transparent in a PNG",
          "mark the object, or choose --mask-polarity white, black or alpha", param, param + "_empty"};
}

void check_shape(const std::string& param, const Array& mask, const Picture& photo) {
  if (mask.shape() != Shape{photo.height(), photo.width()})
    throw size_error(param, mask, "the photo's " + by(photo.width(), photo.height()));
}

void check_mask(const Array& mask, const Picture& photo) {
  check_shape("mask", mask, photo);
  if (!any(mask)) throw empty_error("mask");
  if (all(mask)) {
    throw InputError("the mask is full: it marks every pixel to edit", "some pixels to keep",
                     "mark only the object; if it marks the background, invert it with --mask-polarity", "mask",
                     "mask_full");
  }
}

// ITU-R BT.601, in the fixed-point form of Pillow.
Array luminance(const Picture& picture) {
  Array levels(DType::uint8, {picture.height(), picture.width()});
  const std::uint8_t* rgb = picture.pixels.as<std::uint8_t>();
  for (std::size_t k = 0; k < levels.count(); ++k, rgb += 3) {
    levels.as<std::uint8_t>()[k] =
        static_cast<std::uint8_t>((rgb[0] * 19595U + rgb[1] * 38470U + rgb[2] * 7471U + 0x8000U) >> 16U);
  }
  return levels;
}

// How strongly each pixel is marked, and the level from which it counts where a mask must be whole.
std::pair<Array, int> read_levels(const ImageView& source, const std::string& param, Polarity polarity) {
  Picture picture = load_picture(source, param);
  if (source.channels == 1) {
    const std::uint8_t* pixels = picture.pixels.as<std::uint8_t>();
    if (*std::max_element(pixels, pixels + picture.pixels.count()) == 1)
      picture.pixels = as_mask(picture.pixels, [](std::uint8_t byte) { return byte == 1; });
  }
  const bool is_opaque = !picture.alpha || std::all_of(picture.alpha->as<std::uint8_t>(),
                                                       picture.alpha->as<std::uint8_t>() + picture.alpha->count(),
                                                       [](std::uint8_t byte) { return byte == 255; });
  if (polarity == Polarity::alpha || (polarity == Polarity::automatic && !is_opaque)) {
    if (!picture.alpha) {
      throw InputError("the " + param + " has no transparency, and polarity `alpha` edits what is transparent",
                       "a PNG whose object is transparent",
                       "erase the object in the mask, or use --mask-polarity white", param, param + "_without_alpha");
    }
    return {map_bytes(*picture.alpha, [](std::uint8_t byte) { return static_cast<std::uint8_t>(255 - byte); }), 255};
  }
  Array levels = luminance(picture);
  for (std::size_t k = 0; k < levels.count(); ++k) {
    std::uint8_t& level = levels.as<std::uint8_t>()[k];
    if (polarity == Polarity::black) level = static_cast<std::uint8_t>(255 - level);
    // Transparent pixels of a painted mask are never part of the object.
    if (picture.alpha && picture.alpha->as<std::uint8_t>()[k] < 128) level = 0;
  }
  return {std::move(levels), 128};
}

Array read_mask(const ImageView& source, const std::string& param, Polarity polarity) {
  const auto [levels, threshold] = read_levels(source, param, polarity);
  const int least = threshold;
  return as_mask(levels, [least](std::uint8_t level) { return level >= least; });
}

// The mean of every factor x factor block of [H,W,channels], rounded half up; a last, partial block is dropped.
Array shrink(const Array& pixels, std::int64_t channels, std::int64_t factor) {
  const std::int64_t width = pixels.shape()[1], rows = pixels.shape()[0] / factor, columns = width / factor;
  Array shrunk(DType::uint8, {rows, columns, channels});
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t column = 0; column < columns; ++column) {
      for (std::int64_t channel = 0; channel < channels; ++channel) {
        std::uint32_t sum = 0;
        for (std::int64_t y = row * factor; y < (row + 1) * factor; ++y) {
          for (std::int64_t x = column * factor; x < (column + 1) * factor; ++x)
            sum += pixels.as<std::uint8_t>()[(y * width + x) * channels + channel];
        }
        const auto area = static_cast<std::uint32_t>(factor * factor);
        shrunk.as<std::uint8_t>()[(row * columns + column) * channels + channel] =
            static_cast<std::uint8_t>((2 * sum + area) / (2 * area));
      }
    }
  }
  return shrunk;
}

}  // namespace

Picture load_picture(const ImageView& image, const std::string& param) {
  const bool has_shape = image.channels == 1 || image.channels == 3 || image.channels == 4;
  const std::size_t row_bytes = has_shape && image.width > 0
                                    ? static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.channels)
                                    : 0;
  if (image.pixels == nullptr || !has_shape || (image.stride != 0 && image.stride < row_bytes)) {
    throw InputError("the " + param +
                         (image.pixels == nullptr ? " has no pixels"
                                                  : " has " + std::to_string(image.channels) + " channels and rows " +
                                                        std::to_string(image.stride) + " bytes apart"),
                     "uint8 in [0,255] of 1, 3 or 4 channels, in rows that hold them",
                     "give the pixels, their size, channels and stride", param, param + "_bad_array");
  }
  check_size(image.width, image.height, param);
  Picture picture{Array(DType::uint8, {image.height, image.width, 3}), std::nullopt};
  if (image.channels == 4) picture.alpha = Array(DType::uint8, {image.height, image.width});
  const std::size_t stride = image.stride == 0 ? row_bytes : image.stride;
  std::uint8_t* to = picture.pixels.as<std::uint8_t>();
  std::uint8_t* to_alpha = picture.alpha ? picture.alpha->as<std::uint8_t>() : nullptr;
  for (int y = 0; y < image.height; ++y) {
    const std::uint8_t* from = image.pixels + static_cast<std::size_t>(y) * stride;
    if (image.channels == 3) {
      to = std::copy(from, from + row_bytes, to);
      continue;
    }
    for (int x = 0; x < image.width; ++x, from += image.channels) {
      for (int channel = 0; channel < 3; ++channel) *to++ = from[image.channels == 1 ? 0 : channel];
      if (to_alpha != nullptr) *to_alpha++ = from[3];
    }
  }
  return picture;
}

Region load_region(const ImageView& mask, const Picture& photo, const MaskOptions& options) {
  if (options.dilate && !(*options.dilate >= 1 && *options.dilate <= kMaxDilate && *options.dilate % 2 == 1)) {
    throw InputError("dilate is " + std::to_string(*options.dilate),
                     "an odd number of pixels from 1 to " + std::to_string(kMaxDilate), "choose 1 for none", "dilate",
                     "dilate_out_of_range");
  }
  if (mask.pixels == nullptr) {
    throw InputError("there is no mask", "a picture of the photo's size with the object in white",
                     "give one with --mask, or as the `mask` argument", "mask", "mask_missing");
  }
  Region region;
  region.dilate = options.dilate;
  region.is_soft = options.kind == MaskKind::soft;
  if (region.is_soft) {
    region.edit = read_levels(mask, "mask", options.polarity).first;
    region.object = as_mask(region.edit, [](std::uint8_t level) { return level >= 128; });
    check_mask(region.object, photo);
  } else {
    region.object = read_mask(mask, "mask", options.polarity);
    check_mask(region.object, photo);
    region.edit = region.object;
  }
  if (options.protect) {
    region.protect = read_mask(*options.protect, "protect", options.polarity);
    check_shape("protect", region.protect, photo);
  } else {
    region.protect = Array(DType::uint8, region.object.shape());
  }
  if (options.kind == MaskKind::box) {
    const Box box = object_box(region.object);
    const std::int64_t width = photo.width();
    for (std::int64_t y = box.top; y < box.bottom; ++y) {
      std::uint8_t* row = region.edit.as<std::uint8_t>() + y * width;
      std::fill(row + box.left, row + box.right, std::uint8_t{255});
    }
  }
  for (std::size_t k = 0; k < region.protect.count(); ++k) {
    if (region.protect.as<std::uint8_t>()[k] != 0)
      region.object.as<std::uint8_t>()[k] = region.edit.as<std::uint8_t>()[k] = 0;
  }
  if (!any(region.object)) {
    throw InputError("the protected area covers the whole object", "some of the object to edit",
                     "protect only what stands in front of it", "protect", "protect_covers_mask");
  }
  return region;
}

ReferencePicture load_reference(const Reference& reference, Polarity polarity) {
  const Picture picture = load_picture(reference.picture, "reference");
  Array shown;
  if (reference.mask) {
    shown = read_mask(*reference.mask, "reference_mask", polarity);
    if (shown.shape() != Shape{picture.height(), picture.width()}) {
      throw size_error("reference_mask", shown, "the reference's " + by(picture.width(), picture.height()));
    }
  } else if (picture.alpha) {
    shown = as_mask(*picture.alpha, [](std::uint8_t opacity) { return opacity >= 128; });
  } else {
    shown = as_mask(Array(DType::uint8, {picture.height(), picture.width()}), [](std::uint8_t) { return true; });
  }
  if (!any(shown)) throw empty_error(reference.mask ? "reference_mask" : "reference");
  const std::int64_t factor = std::max(picture.height(), picture.width()) / kReferenceSide;
  if (factor < 2) return {picture.pixels, std::move(shown)};
  // Any covered pixel keeps its cell, so that a thin object cannot vanish here.
  Array cells = as_mask(shrink(shown, 1, factor), [](std::uint8_t mean) { return mean > 0; });
  cells.reshape({cells.shape()[0], cells.shape()[1]});
  return {shrink(picture.pixels, 3, factor), std::move(cells)};
}

Region whole_region(const Array& mask) { return {mask, mask, Array(DType::uint8, mask.shape()), 1, false}; }

}  // namespace alterbute
