#include "images/pieces.hpp"

#include <algorithm>
#include <numeric>

namespace alterbute {
namespace {

constexpr std::size_t kMaxRuns = 1'000'000;

std::size_t root_of(std::vector<std::size_t>& parents, std::size_t run) {
  while (parents[run] != run) run = parents[run] = parents[parents[run]];
  return run;
}

void join(std::vector<std::size_t>& parents, std::size_t one, std::size_t other) {
  one = root_of(parents, one), other = root_of(parents, other);
  parents[std::max(one, other)] = std::min(one, other);
}

// The first run of the piece of each run. Runs of neighbouring rows connect, diagonally too.
std::vector<std::size_t> find_roots(const std::vector<Pieces::Run>& runs) {
  std::vector<std::size_t> parents(runs.size());
  std::iota(parents.begin(), parents.end(), std::size_t{0});
  std::size_t above = 0;
  for (std::size_t here = 0; here < runs.size(); ++here) {
    while (above < here && (runs[above].row < runs[here].row - 1 ||
                            (runs[above].row == runs[here].row - 1 && runs[above].stop < runs[here].start)))
      ++above;
    for (std::size_t k = above; k < here && runs[k].row == runs[here].row - 1 && runs[k].start <= runs[here].stop; ++k)
      join(parents, k, here);
  }
  for (std::size_t run = 0; run < runs.size(); ++run) parents[run] = root_of(parents, run);
  return parents;
}

}  // namespace

std::vector<Box> Pieces::boxes() const {
  std::vector<Box> all(areas.size(), Box{height, width, 0, 0});
  for (const Run& run : runs) {
    Box& box = all[run.piece];
    box = {std::min(box.top, run.row), std::min(box.left, run.start), std::max(box.bottom, run.row + 1),
           std::max(box.right, run.stop)};
  }
  return all;
}

Array Pieces::paint(const std::vector<bool>& chosen) const {
  Array mask(DType::uint8, {height, width});
  for (const Run& run : runs) {
    std::uint8_t* row = mask.as<std::uint8_t>() + run.row * width;
    if (chosen[run.piece]) std::fill(row + run.start, row + run.stop, std::uint8_t{255});
  }
  return mask;
}

Pieces Pieces::keep(const std::vector<bool>& chosen) const {
  std::vector<std::size_t> numbers(areas.size());
  Pieces kept{height, width, {}, {}};
  for (std::size_t piece = 0; piece < areas.size(); ++piece) {
    numbers[piece] = kept.areas.size();
    if (chosen[piece]) kept.areas.push_back(areas[piece]);
  }
  for (const Run& run : runs)
    if (chosen[run.piece]) kept.runs.push_back({run.row, run.start, run.stop, numbers[run.piece]});
  return kept;
}

std::optional<Pieces> find_pieces(const Array& mask) {
  Pieces pieces{mask.shape()[0], mask.shape()[1], {}, {}};
  for (std::int64_t y = 0; y < pieces.height; ++y) {
    const std::uint8_t* row = mask.as<std::uint8_t>() + y * pieces.width;
    for (std::int64_t x = 0; x < pieces.width; ++x) {
      if (row[x] == 0) continue;
      const std::int64_t start = x;
      while (x < pieces.width && row[x] != 0) ++x;
      if (pieces.runs.size() == kMaxRuns) return std::nullopt;
      pieces.runs.push_back({y, start, x, 0});
    }
  }
  const std::vector<std::size_t> roots = find_roots(pieces.runs);
  std::vector<std::size_t> order;  // the first run of each piece
  std::vector<std::int64_t> area_of(pieces.runs.size());
  for (std::size_t run = 0; run < roots.size(); ++run) {
    if (roots[run] == run) order.push_back(run);
    area_of[roots[run]] += pieces.runs[run].stop - pieces.runs[run].start;
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t one, std::size_t other) { return area_of[one] > area_of[other]; });
  std::vector<std::size_t> rank(pieces.runs.size());
  for (std::size_t piece = 0; piece < order.size(); ++piece) {
    rank[order[piece]] = piece;
    pieces.areas.push_back(area_of[order[piece]]);
  }
  for (std::size_t run = 0; run < roots.size(); ++run) pieces.runs[run].piece = rank[roots[run]];
  return pieces;
}

std::vector<bool> find_dust(const std::vector<std::int64_t>& areas) {
  const std::int64_t largest = areas.empty() ? 0 : *std::max_element(areas.begin(), areas.end());
  std::vector<bool> is_dust;
  for (const std::int64_t area : areas) is_dust.push_back(area * 1000 < largest || (area < 64 && area * 50 < largest));
  return is_dust;
}

}  // namespace alterbute
