// The shapes at which the step graph is launched on a GPU: each is captured once, and smaller launches are padded to
// it.
#pragma once

#include <cstdint>
#include <vector>

#include "bundle/manifest.hpp"

namespace alterbute {

// The buckets that launches of up to `slots` slots can need, the largest first: from those that the bundle lists, or
// from a table where it lists none. The largest launch gets a bucket where none holds it.
std::vector<LaunchShape> choose_buckets(const std::vector<LaunchShape>& listed, std::int64_t slots);

// The launch of a full lane, to which exact mode pads every launch.
LaunchShape full_bucket(std::int64_t slots);

// The cheapest bucket that holds these slots and rows: fewest rows, then fewest slots. Throws EngineError: none does.
LaunchShape find_bucket(const std::vector<LaunchShape>& buckets, std::int64_t slots, std::int64_t rows);

// The most slots and the most rows of any bucket.
LaunchShape largest_of(const std::vector<LaunchShape>& buckets);

}  // namespace alterbute
