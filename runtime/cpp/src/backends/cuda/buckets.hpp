// The shapes at which the step graph is launched on a GPU: each is captured once, and smaller launches are padded to it.
#pragma once

#include <cstdint>
#include <vector>

#include "bundle/manifest.hpp"

namespace alterbute {

// The bundle's buckets, or a table for bundles that list none, without those of more slots than needed; a table that does
// not hold `slots` slots with three rows each, the most that guidance takes, gets a bucket which does.
std::vector<LaunchShape> choose_buckets(const std::vector<LaunchShape>& listed, std::int64_t slots);

// The cheapest bucket that holds these slots and rows: fewest rows, then fewest slots. Throws EngineError: there is none.
LaunchShape find_bucket(const std::vector<LaunchShape>& buckets, std::int64_t slots, std::int64_t rows);

// The most slots and the most rows of any bucket.
LaunchShape largest_of(const std::vector<LaunchShape>& buckets);

}  // namespace alterbute
