// The connected pieces of a mask, as runs of pixels; the Python `alterbute.images.masks.pieces`.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "images/box.hpp"

namespace alterbute {

// The 8-connected pieces of a mask, the largest first; of equal ones the first in reading order.
struct Pieces {
  struct Run {
    std::int64_t row, start, stop;
    std::size_t piece;
  };

  std::int64_t height = 0, width = 0;
  std::vector<Run> runs;            // in reading order
  std::vector<std::int64_t> areas;  // pixels of each piece

  std::vector<Box> boxes() const;
  // [H,W] uint8, 255 where a chosen piece is.
  Array paint(const std::vector<bool>& chosen) const;
  // The chosen pieces, numbered anew in their order.
  Pieces keep(const std::vector<bool>& chosen) const;
};

// The pieces of the pixels above 0 of a mask [H,W] uint8; none if it has more than a million runs.
std::optional<Pieces> find_pieces(const Array& mask);

// Which pieces are dust: under a thousandth of the largest, or under 64 pixels and a fiftieth of the largest.
std::vector<bool> find_dust(const std::vector<std::int64_t>& areas);

}  // namespace alterbute
