// The windows of photo and reference: square boxes around the object, in whole pixels.
#include "images/window.hpp"

#include <algorithm>
#include <cmath>

#include "alterbute/errors.hpp"

namespace alterbute {
namespace {

constexpr std::int64_t kMinSide = 32;  // the smallest window: a one-pixel mask still gets some photo around it
constexpr std::int64_t kMaxReferenceZoomOut = 3;  // the largest reference window, in longer sides of its object

std::int64_t ceil_of(double value) { return static_cast<std::int64_t>(std::ceil(value)); }
std::int64_t floor_of(double value) { return static_cast<std::int64_t>(std::floor(value)); }

std::int64_t floor_half(std::int64_t value) { return value >= 0 ? value / 2 : -((1 - value) / 2); }

Box square(const Box& around, std::int64_t side) {
  const std::int64_t top = floor_half(around.top + around.bottom - side),
                     left = floor_half(around.left + around.right - side);
  return {top, left, top + side, left + side};
}

// Moves a span into the picture; a span longer than the picture covers all of it.
std::int64_t shift(std::int64_t start, std::int64_t side, std::int64_t length) {
  const auto [low, high] = std::minmax({std::int64_t{0}, length - side});
  return std::min(std::max(start, low), high);
}

}  // namespace

Box object_box(const Array& mask) {
  const std::int64_t height = mask.shape()[0], width = mask.shape()[1];
  Box box{height, width, 0, 0};
  for (std::int64_t y = 0; y < height; ++y) {
    const std::uint8_t* row = mask.as<std::uint8_t>() + y * width;
    const auto is_object = [](std::uint8_t byte) { return byte != 0; };
    const std::uint8_t* first = std::find_if(row, row + width, is_object);
    if (first == row + width) continue;
    const std::uint8_t* last = row + width - 1;
    while (*last == 0) --last;
    box = {std::min(box.top, y), std::min(box.left, static_cast<std::int64_t>(first - row)), y + 1,
           std::max(box.right, static_cast<std::int64_t>(last - row) + 1)};
  }
  return box;
}

Box photo_box(const Array& mask, double margin, int rim) {
  const Box around = object_box(mask);
  const std::int64_t height = mask.shape()[0], width = mask.shape()[1];
  // A margin beyond all photos is cut before it could overflow: the side never passes the photo's longer side.
  const double wanted = std::min(margin * static_cast<double>(around.longer()), 1e9);
  const std::int64_t side = std::max({ceil_of(wanted), around.longer() + 2 * rim, kMinSide});
  const Box box = square(around, std::min(side, std::max(height, width)));
  const std::int64_t top = shift(box.top, box.height(), height), left = shift(box.left, box.width(), width);
  return {top, left, top + box.height(), left + box.width()};
}

Box identity_box(const Array& mask) {
  const Box around = object_box(mask);
  return square(around, ceil_of(1.1 * static_cast<double>(std::max(around.height(), around.width()))));
}

Box reference_box(const Array& reference_mask, const Array& photo_mask, const Box& box) {
  const Box there = object_box(reference_mask), here = object_box(photo_mask);
  const auto ratio = [](std::int64_t a, std::int64_t b) { return static_cast<double>(a) / static_cast<double>(b); };
  const double fit = std::max(ratio(there.height(), here.height()), ratio(there.width(), here.width())) *
                     static_cast<double>(box.height());
  const auto most = static_cast<double>(kMaxReferenceZoomOut * std::max(there.height(), there.width()));
  const std::int64_t side = ceil_of(std::min(fit, most));
  const double scale = ratio(side, box.height());
  const auto start = [&](std::int64_t there_first, std::int64_t there_last, std::int64_t here_first,
                         std::int64_t here_last, std::int64_t from) {
    return floor_of(ratio(there_first + there_last + 1, 2) -
                    scale * (ratio(here_first + here_last, 2) - static_cast<double>(from)));
  };
  const std::int64_t top = start(there.top, there.bottom, here.top, here.bottom, box.top);
  const std::int64_t left = start(there.left, there.right, here.left, here.right, box.left);
  return {top, left, top + side, left + side};
}

Array cut(const Array& pixels, const Box& box) {
  const std::int64_t height = pixels.shape()[0], width = pixels.shape()[1];
  const auto row_bytes = static_cast<std::int64_t>(pixels.bytes()) / height, pixel_bytes = row_bytes / width;
  Shape shape = pixels.shape();
  shape[0] = box.height();
  shape[1] = box.width();
  Array window(pixels.dtype(), std::move(shape));
  // Columns of the box that lie left of the picture, in it, and right of it.
  const Box inside = box.inside(height, width);
  auto* to = window.as<std::uint8_t>();
  for (std::int64_t y = box.top; y < box.bottom; ++y) {
    const auto* row = pixels.as<std::uint8_t>() + std::clamp(y, std::int64_t{0}, height - 1) * row_bytes;
    const auto repeat = [&](std::int64_t column, std::int64_t count) {
      for (; count > 0; --count) to = std::copy_n(row + column * pixel_bytes, pixel_bytes, to);
    };
    const std::int64_t stop = std::max(inside.right, inside.left);
    repeat(0, std::min(inside.left, box.right) - box.left);
    to = std::copy_n(row + inside.left * pixel_bytes, (stop - inside.left) * pixel_bytes, to);
    repeat(width - 1, box.right - std::max(stop, box.left));
  }
  return window;
}

void start_result(const Picture& photo, Image& image, Image& touched) {
  const std::int64_t height = photo.height(), width = photo.width(), channels = photo.alpha ? 4 : 3;
  const auto whole = [](std::int64_t size) { return static_cast<int>(size); };
  const std::int64_t sample = photo.bits() / 8;
  touched = {std::vector<std::uint8_t>(count_of({height, width})), whole(width), whole(height), 1};
  image = {std::vector<std::uint8_t>(count_of({height, width, channels, sample})), whole(width), whole(height),
           whole(channels), photo.bits()};
  const auto* from = photo.pixels.as<std::uint8_t>();
  if (!photo.alpha) {
    std::copy_n(from, image.pixels.size(), image.pixels.begin());
    return;
  }
  const auto* alpha = photo.alpha->as<std::uint8_t>();
  for (std::uint8_t *to = image.pixels.data(), *end = to + image.pixels.size(); to != end;) {
    to = std::copy_n(from, 3 * sample, to);
    to = std::copy_n(alpha, sample, to);
    from += 3 * sample;
    alpha += sample;
  }
}

void paste_back(const Box& box, const Array& pasted, const Array& alpha, Image& image, Image& touched) {
  const DType dtype = image.bits == 16 ? DType::uint16 : DType::uint8;
  const bool fits = pasted.dtype() == dtype && pasted.shape() == Shape{box.height(), box.width(), 3} &&
                    alpha.dtype() == DType::uint8 && alpha.shape() == Shape{box.height(), box.width()};
  if (!fits)
    throw EngineError("the image graphs give a window of another size or type", "levels of the box's size",
                      "export the bundle again");
  const std::int64_t sample = image.bits / 8;
  const Box inside = box.inside(image.height, image.width);
  for (std::int64_t y = inside.top; y < inside.bottom; ++y) {
    for (std::int64_t x = inside.left; x < inside.right; ++x) {
      const std::int64_t there = (y - box.top) * box.width() + (x - box.left), here = y * image.width + x;
      const std::uint8_t level = alpha.as<std::uint8_t>()[there];
      if (level == 0) continue;
      touched.pixels[static_cast<std::size_t>(here)] = level;
      std::copy_n(pasted.as<std::uint8_t>() + there * 3 * sample, 3 * sample,
                  image.pixels.data() + here * image.channels * sample);
    }
  }
}

}  // namespace alterbute
