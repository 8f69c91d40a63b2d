#include "images/region.hpp"

#include <algorithm>
#include <tuple>

#include "alterbute/errors.hpp"
#include "images/mask.hpp"

namespace alterbute {
namespace {

constexpr int kMaxDilate = 63, kMaxRim = 256;
constexpr std::size_t kMaxWindows = 8, kMaxPieces = 64;
constexpr double kMinGap = 0.5, kMaxEnlargement = 1.25;

struct Group {
  std::vector<std::size_t> pieces;
  Box box;
};

Box around(const Box& a, const Box& b) {
  return {std::min(a.top, b.top), std::min(a.left, b.left), std::max(a.bottom, b.bottom), std::max(a.right, b.right)};
}

// Rows or columns between two boxes, whichever are more; 0 if they touch in both directions.
std::int64_t gap(const Box& a, const Box& b) {
  const std::int64_t down = std::max({a.top - b.bottom, b.top - a.bottom, std::int64_t{0}});
  const std::int64_t right = std::max({a.left - b.right, b.left - a.right, std::int64_t{0}});
  return std::max(down, right);
}

bool are_apart(const Box& a, const Box& b, double margin, std::int64_t largest_side) {
  const auto alone = static_cast<double>(std::max(a.longer(), b.longer()));
  const auto together = static_cast<double>(around(a, b).longer());
  const auto largest = static_cast<double>(largest_side);
  const double loss = std::max(margin * together, largest) / std::max(margin * alone, largest);
  return loss > kMaxEnlargement && static_cast<double>(gap(a, b)) >= kMinGap * alone;
}

std::vector<Group> group_objects(const std::vector<Box>& boxes, double margin, std::int64_t largest_side) {
  std::vector<Group> groups;
  for (std::size_t piece = 0; piece < boxes.size(); ++piece) groups.push_back({{piece}, boxes[piece]});
  while (groups.size() > 1) {
    std::optional<std::tuple<std::int64_t, std::size_t, std::size_t>> best;
    for (std::size_t one = 0; one < groups.size(); ++one) {
      for (std::size_t other = one + 1; other < groups.size(); ++other) {
        const Box &a = groups[one].box, &b = groups[other].box;
        if (groups.size() <= kMaxWindows && are_apart(a, b, margin, largest_side)) continue;
        const std::tuple rank{gap(a, b), one, other};
        if (!best || rank < *best) best = rank;
      }
    }
    if (!best) break;
    Group &kept = groups[std::get<1>(*best)], &merged = groups[std::get<2>(*best)];
    kept.pieces.insert(kept.pieces.end(), merged.pieces.begin(), merged.pieces.end());
    kept.box = around(kept.box, merged.box);
    groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(std::get<2>(*best)));
  }
  return groups;
}

// The bytes of `from` where `where` is above 0, else 0.
Array only_where(const Array& from, const Array& where) {
  Array kept(DType::uint8, from.shape());
  const std::uint8_t *bytes = from.as<std::uint8_t>(), *test = where.as<std::uint8_t>();
  for (std::size_t k = 0; k < kept.count(); ++k) kept.as<std::uint8_t>()[k] = test[k] != 0 ? bytes[k] : std::uint8_t{0};
  return kept;
}

void clear_where(Array& bytes, const Array& where) {
  for (std::size_t k = 0; k < bytes.count(); ++k)
    if (where.as<std::uint8_t>()[k] != 0) bytes.as<std::uint8_t>()[k] = 0;
}

Array fill_box(const Array& mask) {
  const Box box = object_box(mask);
  Array filled(DType::uint8, mask.shape());
  for (std::int64_t y = box.top; y < box.bottom; ++y) {
    std::uint8_t* row = filled.as<std::uint8_t>() + y * mask.shape()[1];
    std::fill(row + box.left, row + box.right, std::uint8_t{255});
  }
  return filled;
}

void check_options(const MaskOptions& options) {
  if (options.dilate && !(*options.dilate >= 1 && *options.dilate <= kMaxDilate && *options.dilate % 2 == 1)) {
    throw InputError("dilate is " + std::to_string(*options.dilate),
                     "an odd number of pixels from 1 to " + std::to_string(kMaxDilate), "choose 1 for none", "dilate",
                     "dilate_out_of_range");
  }
  if (options.rim < 0 || options.rim > kMaxRim) {
    throw InputError("rim is " + std::to_string(options.rim),
                     "a whole number of photo pixels from 0 to " + std::to_string(kMaxRim),
                     "choose 0 to keep every pixel outside the mask", "rim", "rim_out_of_range");
  }
}

// Removes pieces that are so small that they were not meant; leaves the pieces that stay.
void drop_dust(Array& levels, std::optional<Pieces>& pieces) {
  pieces = find_pieces(levels);
  if (!pieces) return;
  std::vector<bool> is_kept = find_dust(pieces->areas);
  is_kept.flip();
  if (std::find(is_kept.begin(), is_kept.end(), false) == is_kept.end()) return;
  levels = only_where(levels, pieces->paint(is_kept));
  pieces = pieces->keep(is_kept);
}

Region take_part(const Region& region, const Array& part) {
  Region taken = region;
  taken.object = only_where(region.object, part);
  const bool is_box = region.kind == MaskKind::box && has_any(taken.object);
  taken.edit = is_box ? fill_box(taken.object) : only_where(region.edit, part);
  if (is_box) clear_where(taken.edit, region.protect);
  taken.pieces.reset();
  return taken;
}

}  // namespace

Region load_region(const ImageView& mask, const Picture& photo, const MaskOptions& options) {
  check_options(options);
  ReadMask read = read_mask(mask, photo, options);
  Region region;
  region.kind = options.kind;
  region.dilate = options.dilate;
  region.rim = options.rim;
  region.warnings = std::move(read.warnings);
  drop_dust(read.levels, region.pieces);
  region.object = mark_from(read.levels, kObjectLevel);
  region.edit = options.kind == MaskKind::box ? fill_box(region.object) : std::move(read.levels);
  region.protect = options.protect ? read_binary(*options.protect, "protect", photo, options.polarity)
                                   : Array(DType::uint8, region.object.shape());
  clear_where(region.object, region.protect);
  clear_where(region.edit, region.protect);
  if (!has_any(region.object)) {
    throw InputError("the protected area covers the whole object", "some of the object to edit",
                     "protect only what stands in front of it", "protect", "protect_covers_mask");
  }
  return region;
}

Region whole_region(const Array& mask) {
  Region region;
  region.object = region.edit = mask;
  region.protect = Array(DType::uint8, mask.shape());
  region.kind = MaskKind::soft;
  region.dilate = 1;
  return region;
}

std::vector<Region> split_region(const Region& region, double margin, std::int64_t largest_side) {
  if (!region.pieces || region.pieces->areas.size() < 2 || region.pieces->areas.size() > kMaxPieces) return {region};
  const std::vector<Group> groups = group_objects(region.pieces->boxes(), margin, largest_side);
  if (groups.size() == 1) return {region};
  std::vector<Region> parts;
  for (const Group& group : groups) {
    std::vector<bool> chosen(region.pieces->areas.size());
    for (const std::size_t piece : group.pieces) chosen[piece] = true;
    parts.push_back(take_part(region, region.pieces->paint(chosen)));
    // A part without an object is a faint smear, or all of it is protected: then the objects are not told apart.
    if (!has_any(parts.back().object)) return {region};
  }
  return parts;
}

}  // namespace alterbute
