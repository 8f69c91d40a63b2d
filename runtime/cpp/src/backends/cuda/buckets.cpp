#include "backends/cuda/buckets.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "alterbute/errors.hpp"

namespace alterbute {
namespace {

// With text and identity guidance.
constexpr std::int64_t kMaxRowsPerSlot = 3;
// As in Python: one image gets each of its numbers of rows exactly; beyond, a bucket is at most half as large again as
// the one before.
constexpr std::array<LaunchShape, 9> kTable = {
    {{1, 1}, {1, 2}, {1, 3}, {8, 4}, {8, 6}, {8, 8}, {8, 12}, {8, 16}, {8, 24}}};

bool is_cheaper(const LaunchShape& one, const LaunchShape& other) {
  return std::tie(one.rows, one.slots) < std::tie(other.rows, other.slots);
}

// Null when none holds the launch.
const LaunchShape* find_cheapest(const std::vector<LaunchShape>& buckets, std::int64_t slots, std::int64_t rows) {
  const LaunchShape* best = nullptr;
  for (const LaunchShape& bucket : buckets) {
    const bool holds = bucket.slots >= slots && bucket.rows >= rows;
    if (holds && (best == nullptr || is_cheaper(bucket, *best))) best = &bucket;
  }
  return best;
}

}  // namespace

std::vector<LaunchShape> choose_buckets(const std::vector<LaunchShape>& listed, std::int64_t slots) {
  const std::int64_t most = full_bucket(slots).rows;
  std::vector<LaunchShape> known = listed.empty() ? std::vector<LaunchShape>(kTable.begin(), kTable.end()) : listed;
  // A bucket of several slots is launched with all the lane's: an idle slot costs a few element-wise operations, but a
  // launch whose one image is in the last slot would otherwise be padded to the rows of a full lane.
  for (LaunchShape& bucket : known) bucket = {bucket.slots == 1 ? 1 : slots, std::min(bucket.rows, most)};
  known.push_back(full_bucket(slots));
  std::map<std::pair<std::int64_t, std::int64_t>, LaunchShape> needed;
  for (std::int64_t used = 1; used <= slots; ++used) {
    for (std::int64_t rows = 1; rows <= kMaxRowsPerSlot * used; ++rows) {
      const LaunchShape& bucket = *find_cheapest(known, used, rows);
      needed[{-bucket.rows, -bucket.slots}] = bucket;
    }
  }
  std::vector<LaunchShape> buckets;
  for (const auto& [order, bucket] : needed) buckets.push_back(bucket);
  return buckets;
}

LaunchShape full_bucket(std::int64_t slots) { return {slots, kMaxRowsPerSlot * slots}; }

LaunchShape find_bucket(const std::vector<LaunchShape>& buckets, std::int64_t slots, std::int64_t rows) {
  if (const LaunchShape* best = find_cheapest(buckets, slots, rows)) return *best;
  const LaunchShape most = largest_of(buckets);
  throw EngineError("a launch has " + std::to_string(slots) + " slots and " + std::to_string(rows) + " rows",
                    "at most " + std::to_string(most.slots) + " and " + std::to_string(most.rows),
                    "open the editor with more slots");
}

LaunchShape largest_of(const std::vector<LaunchShape>& buckets) {
  LaunchShape most;
  for (const LaunchShape& bucket : buckets)
    most = {std::max(most.slots, bucket.slots), std::max(most.rows, bucket.rows)};
  return most;
}

}  // namespace alterbute
