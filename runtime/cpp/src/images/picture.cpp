#include "images/picture.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "alterbute/errors.hpp"
#include "images/depth.hpp"
#include "images/mask.hpp"

namespace alterbute {
namespace {

constexpr std::int64_t kMaxPixels = 100'000'000, kMinSide = 32, kMaxSide = 16'384, kReferenceSide = 1024;
constexpr std::uint8_t kHidden = 128;

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

// Copies rows of samples of one depth apart into colours and opacity.
template <typename Sample>
void copy_samples(const ImageView& image, std::size_t stride, Picture& picture) {
  const auto channels = static_cast<std::size_t>(image.channels);
  const std::size_t row_samples = static_cast<std::size_t>(image.width) * channels;
  auto* to = picture.pixels.as<Sample>();
  auto* to_alpha = picture.alpha ? picture.alpha->as<Sample>() : nullptr;
  std::vector<Sample> row(image.channels == 3 ? 0 : row_samples);
  for (int y = 0; y < image.height; ++y) {
    const std::uint8_t* from = image.pixels + static_cast<std::size_t>(y) * stride;
    // The caller's memory may lie at any address, so it is not read as numbers.
    std::memcpy(image.channels == 3 ? to : row.data(), from, row_samples * sizeof(Sample));
    if (image.channels == 3) to += row_samples;
    for (std::size_t at = 0; at < row.size(); at += channels) {
      for (std::size_t channel = 0; channel < 3; ++channel) *to++ = row[at + (channels == 1 ? 0 : channel)];
      if (to_alpha != nullptr) *to_alpha++ = row[at + 3];
    }
  }
}

std::shared_ptr<const ColorSpace> space_of(const ImageView& image, const std::string& param, Color color) {
  if (image.profile == nullptr || color == Color::as_srgb) return nullptr;
  auto space = std::make_shared<const ColorSpace>(image.profile, image.profile_size, param);
  return space->is_srgb() ? nullptr : std::move(space);
}

// Replaces what no one sees: it would reach the encoder through a neighbour's mean.
void hide_transparent(Array& pixels, const Array& opacity) {
  for (std::size_t k = 0; k < opacity.count(); ++k)
    if (opacity.as<std::uint8_t>()[k] == 0) std::fill_n(pixels.as<std::uint8_t>() + 3 * k, 3, kHidden);
}

}  // namespace

Picture load_picture(const ImageView& image, const std::string& param) {
  const bool has_shape =
      (image.channels == 1 || image.channels == 3 || image.channels == 4) && (image.bits == 8 || image.bits == 16);
  const auto whole = [](int size) { return static_cast<std::size_t>(size); };
  const std::size_t row_bytes =
      has_shape && image.width > 0 ? whole(image.width) * whole(image.channels) * whole(image.bits / 8) : 0;
  if (image.pixels == nullptr || !has_shape || (image.stride != 0 && image.stride < row_bytes)) {
    throw InputError("the " + param +
                         (image.pixels == nullptr ? " has no pixels"
                                                  : " has " + std::to_string(image.channels) + " channels of " +
                                                        std::to_string(image.bits) + " bits, and rows " +
                                                        std::to_string(image.stride) + " bytes apart"),
                     "1, 3 or 4 channels of 8 or 16 bits, in rows that hold them",
                     "give the pixels, their size, channels, bits and stride", param, param + "_bad_array");
  }
  check_size(image.width, image.height, param);
  const DType dtype = image.bits == 16 ? DType::uint16 : DType::uint8;
  Picture picture{Array(dtype, {image.height, image.width, 3}), std::nullopt, nullptr};
  if (image.channels == 4) picture.alpha = Array(dtype, {image.height, image.width});
  const std::size_t stride = image.stride == 0 ? row_bytes : image.stride;
  if (image.bits == 16)
    copy_samples<std::uint16_t>(image, stride, picture);
  else
    copy_samples<std::uint8_t>(image, stride, picture);
  return picture;
}

Picture load_photo(const ImageView& image, Color color) {
  Picture photo = load_picture(image, "photo");
  photo.space = space_of(image, "photo", color);
  if (photo.space != nullptr && image.bits != 8) {
    throw InputError("the photo has " + std::to_string(image.bits) + " bits and a colour profile",
                     "8 bits, or pixels in sRGB without a profile: littlecms converts 8 bits here",
                     "cut the photo to 8 bits, convert its pixels to sRGB, or choose Color::as_srgb, which reads the "
                     "numbers as sRGB",
                     "photo", "photo_profile");
  }
  return photo;
}

ReferencePicture load_reference(const Reference& reference, Polarity polarity, Color color) {
  Picture picture = load_picture(reference.picture, "reference");
  const auto space = space_of(reference.picture, "reference", color);
  if (picture.alpha) picture.alpha = to_8_bits(std::move(*picture.alpha));
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
  Array pixels = to_8_bits(std::move(picture.pixels));
  if (space != nullptr) pixels = space->to_srgb(pixels);
  if (picture.alpha) hide_transparent(pixels, *picture.alpha);
  if (factor < 2) return {{std::move(pixels), std::nullopt, nullptr}, std::move(shown)};
  // Any covered pixel keeps its cell, so that a thin object cannot vanish here.
  Array cells = mark_from(shrink(shown, 1, factor), 1);
  cells.reshape({cells.shape()[0], cells.shape()[1]});
  return {{shrink(pixels, 3, factor), std::nullopt, nullptr}, std::move(cells)};
}

}  // namespace alterbute
