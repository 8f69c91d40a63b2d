#include "backends/cuda/buckets.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <tuple>

#include "alterbute/errors.hpp"
#include "base/text.hpp"

namespace alterbute {
namespace {

constexpr std::int64_t kMaxRowsPerSlot = 3;
// One image without, with text and with both kinds of guidance; then twice the images each time.
constexpr std::array<LaunchShape, 8> kTable = {
    {{1, 1}, {1, 2}, {1, 3}, {2, 4}, {4, 8}, {4, 12}, {8, 16}, {8, 24}}};

bool holds(const LaunchShape& bucket, std::int64_t slots, std::int64_t rows) {
  return bucket.slots >= slots && bucket.rows >= rows;
}

bool is_cheaper(const LaunchShape& one, const LaunchShape& other) {
  return std::tie(one.rows, one.slots) < std::tie(other.rows, other.slots);
}

}  // namespace

std::vector<LaunchShape> choose_buckets(const std::vector<LaunchShape>& listed, std::int64_t slots) {
  std::vector<LaunchShape> buckets;
  if (!listed.empty()) {
    std::copy_if(listed.begin(), listed.end(), std::back_inserter(buckets),
                 [&](const LaunchShape& bucket) { return bucket.slots <= slots; });
    return buckets.empty() ? listed : buckets;
  }
  std::copy_if(kTable.begin(), kTable.end(), std::back_inserter(buckets),
               [&](const LaunchShape& bucket) { return bucket.slots <= slots; });
  const std::int64_t rows = slots * kMaxRowsPerSlot;
  const auto is_whole = [&](const LaunchShape& bucket) { return holds(bucket, slots, rows); };
  if (std::none_of(buckets.begin(), buckets.end(), is_whole)) buckets.push_back({slots, rows});
  return buckets;
}

LaunchShape find_bucket(const std::vector<LaunchShape>& buckets, std::int64_t slots, std::int64_t rows) {
  const LaunchShape* best = nullptr;
  for (const LaunchShape& bucket : buckets)
    if (holds(bucket, slots, rows) && (best == nullptr || is_cheaper(bucket, *best))) best = &bucket;
  if (best != nullptr) return *best;
  std::vector<std::string> known;
  for (const LaunchShape& bucket : buckets)
    known.push_back(std::to_string(bucket.slots) + " and " + std::to_string(bucket.rows));
  throw EngineError("a launch has " + std::to_string(slots) + " slots and " + std::to_string(rows) + " rows",
                    "at most one of the bundle's buckets: " + text::join(known, ", "),
                    "open the editor with fewer slots, or export the bundle with larger buckets");
}

LaunchShape largest_of(const std::vector<LaunchShape>& buckets) {
  LaunchShape most;
  for (const LaunchShape& bucket : buckets)
    most = {std::max(most.slots, bucket.slots), std::max(most.rows, bucket.rows)};
  return most;
}

}  // namespace alterbute
