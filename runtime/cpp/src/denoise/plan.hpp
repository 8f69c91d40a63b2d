// An edit compiled to data before it starts: the inputs of each of its steps.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "alterbute/alterbute.hpp"
#include "bundle/manifest.hpp"
#include "denoise/solver_table.hpp"

namespace alterbute {

// One UNet evaluation: its weight in the guided output, and its conditioning.
struct Row {
  double weight;
  bool is_negative = false;  // the negative prompt rather than the request's
  bool is_null = false;      // what stands for no identity rather than the reference's
  float source_on = 1;

  bool operator==(const Row& other) const {
    return weight == other.weight && is_negative == other.is_negative && is_null == other.is_null &&
           source_on == other.source_on;
  }
};

using Rows = std::vector<Row>;

// The rows of one guided step. Throws InputError: a form of guidance that the bundle was not trained for.
Rows guidance_rows(double text, double identity, const std::vector<std::string>& forms);

// One image of a request; the Python `Plan`.
struct Plan {
  SolverSteps solver;
  std::vector<Rows> rows;
  std::vector<bool> is_noisy;
  double identity_scale, guidance_rescale;
  bool reinject;
  std::uint64_t seed;
  std::uint32_t image;

  std::size_t steps() const { return solver.timestep.size(); }
};

// Refuses a value that is out of its range. Throws InputError.
void check_request(const Request& request);

// Throws InputError: a solver, steps or guidance that this bundle cannot do; BundleError: its solver state is not
// supported.
Plan make_plan(const Request& request, const Manifest& manifest, const SolverTable& table, std::uint64_t seed,
               std::uint32_t image);

}  // namespace alterbute
