// `solvers.safetensors`: a bundle's solvers as numbers, so that no solver code runs here. The Python module
// `alterbute.solver.solver_table` describes the file; this reads and checks it in the same way.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace alterbute {

constexpr std::size_t kStateRows = 4;
constexpr std::size_t kSolverColumns = kStateRows + 2;

using SolverMatrix = std::array<float, kStateRows * kSolverColumns>;

// A whole trajectory: of each step the timestep, the matrix W, and the signal and noise scale after it.
struct SolverSteps {
  std::vector<float> timestep;
  std::vector<SolverMatrix> matrix;
  std::vector<std::array<float, 2>> level;
  std::array<float, 2> start{};  // signal and noise scale of the first latent
};

class SolverTable {
 public:
  // Checks the bytes of the file. Throws BundleError; what is wrong is named.
  explicit SolverTable(std::string_view data);

  // Throws InputError: a solver, a number of steps or a strength that is not in the table.
  SolverSteps steps(const std::string& solver, std::int64_t steps, double strength) const;

  const std::string& spacing() const { return spacing_; }
  const std::vector<std::string>& solvers() const { return names_; }

 private:
  struct Solver {
    std::size_t rows = 0;  // state rows that this solver uses
    std::vector<float> timestep, matrix, level, start;
    std::vector<std::int64_t> offset;
  };

  std::string spacing_;
  std::int64_t max_steps_ = 0;
  std::vector<std::string> names_;
  std::map<std::string, Solver> solvers_;
};

}  // namespace alterbute
