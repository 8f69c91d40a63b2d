#include "images/picture.hpp"

#include <algorithm>

#include "alterbute/errors.hpp"
#include "images/mask.hpp"

namespace alterbute {
namespace {

constexpr std::int64_t kMaxPixels = 24'000'000, kMinSide = 32, kMaxSide = 8192, kReferenceSide = 1024;

std::string by(std::int64_t width, std::int64_t height) { return std::to_string(width) + "x" + std::to_string(height); }

void check_size(std::int64_t width, std::int64_t height, const std::string& param) {
  if (std::min(width, height) >= kMinSide && std::max(width, height) <= kMaxSide && width * height <= kMaxPixels)
    return;
  throw InputError("the " + param + " is " + by(width, height) + " pixels",
                   "sides of " + std::to_string(kMinSide) + " to " + std::to_string(kMaxSide) + " and at most " +
                       std::to_string(kMaxPixels / 1'000'000) + " megapixels",
                   "crop or resize it", param, param + "_size_out_of_limits");
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

ReferencePicture load_reference(const Reference& reference, Polarity polarity) {
  const Picture picture = load_picture(reference.picture, "reference");
  Array shown;
  if (reference.mask) {
    shown = read_binary(*reference.mask, "reference_mask", picture, polarity);
  } else if (picture.alpha) {
    shown = mark_from(*picture.alpha, kObjectLevel);
  } else {
    shown = mark_from(Array(DType::uint8, {picture.height(), picture.width()}), 0);
  }
  if (!has_any(shown)) throw empty_error(reference.mask ? "reference_mask" : "reference");
  const std::int64_t factor = std::max(picture.height(), picture.width()) / kReferenceSide;
  if (factor < 2) return {picture.pixels, std::move(shown)};
  // Any covered pixel keeps its cell, so that a thin object cannot vanish here.
  Array cells = mark_from(shrink(shown, 1, factor), 1);
  cells.reshape({cells.shape()[0], cells.shape()[1]});
  return {shrink(picture.pixels, 3, factor), std::move(cells)};
}

}  // namespace alterbute
