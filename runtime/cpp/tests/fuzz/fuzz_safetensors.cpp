// Any bytes are a solver table or are refused with a BundleError; what a table gives for a request is whole.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "alterbute/errors.hpp"
#include "denoise/solver_table.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const alterbute::SolverTable table({reinterpret_cast<const char*>(data), size});
    for (const std::string& solver : table.solvers()) {
      for (const std::int64_t steps : {1, 20, 50}) {
        for (const double strength : {1.0, 0.4}) {
          try {
            const alterbute::SolverSteps made = table.steps(solver, steps, strength);
            if (made.matrix.size() != made.timestep.size() || made.level.size() != made.timestep.size() ||
                made.matrix.empty())
              __builtin_trap();
          } catch (const alterbute::InputError&) {
          }
        }
      }
    }
  } catch (const alterbute::BundleError&) {
  }
  return 0;
}
