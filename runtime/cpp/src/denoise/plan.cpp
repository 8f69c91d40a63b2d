#include "denoise/plan.hpp"

#include <algorithm>
#include <cmath>

#include "base/text.hpp"

namespace alterbute {
namespace {

constexpr int kMaxSteps = 1000, kMaxCount = 64;
constexpr double kMaxGuidance = 100, kMaxIdentityScale = 10;

[[noreturn]] void refuse_range(const std::string& param, const std::string& value, const std::string& expected) {
  throw InputError(param + " is " + value, expected, "choose " + param + " in that range", param,
                   param + "_out_of_range");
}

void check_integer(const char* param, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value < low || value > high)
    refuse_range(param, std::to_string(value), std::to_string(low) + " to " + std::to_string(high));
}

void check_number(const char* param, std::optional<double> value, double high) {
  if (value && !(*value >= 0 && *value <= high))
    refuse_range(param, text::python_repr(*value), "0 to " + text::general(high));
}

// Outside the interval there is one row, which costs a half or a third.
std::vector<Rows> guided_steps(const Rows& rows, std::size_t steps, double start, double stop) {
  std::vector<Rows> each;
  for (std::size_t k = 0; k < steps; ++k) {
    const double share = static_cast<double>(k) / static_cast<double>(steps);
    each.push_back(start <= share && share < stop ? rows : Rows{{1}});
  }
  return each;
}

bool draws_noise(const SolverMatrix& matrix) {
  for (std::size_t row = 0; row < kStateRows; ++row) {
    if (matrix[row * kSolverColumns + kSolverColumns - 1] != 0) return true;
  }
  return false;
}

}  // namespace

Rows guidance_rows(double text, double identity, const std::vector<std::string>& forms) {
  const auto check_form = [&](const char* form, const std::string& param, double scale) {
    if (scale == 1 || std::find(forms.begin(), forms.end(), form) != forms.end()) return;
    throw InputError(param + " is " + text::general(scale), "1: this bundle was trained without it",
                     "leave " + param + " out", param, param + "_unsupported");
  };
  check_form("text", "guidance", text);
  check_form("identity", "identity_guidance", identity);
  Rows rows;
  for (const Row& row :
       {Row{1.0 - identity, true, true, 0}, Row{identity - text, true, false, 1}, Row{text, false, false, 1}}) {
    if (row.weight != 0) rows.push_back(row);
  }
  return rows.empty() ? Rows{{1}} : rows;
}

void check_request(const Request& request) {
  if (request.seed && *request.seed < 0)
    refuse_range("seed", std::to_string(*request.seed), "0 to 9223372036854775807");
  if (request.steps) check_integer("steps", *request.steps, 1, kMaxSteps);
  check_integer("count", request.count, 1, kMaxCount);
  check_number("guidance", request.guidance, kMaxGuidance);
  check_number("identity_guidance", request.identity_guidance, kMaxGuidance);
  check_number("guidance_rescale", request.guidance_rescale, 1);
  check_number("identity_scale", request.identity_scale, kMaxIdentityScale);
  check_number("strength", request.strength, 1);
  if (request.strength && *request.strength == 0)
    refuse_range("strength", text::python_repr(*request.strength), "more than 0, at most 1");
  if (request.guidance_interval) {
    const auto [start, stop] = *request.guidance_interval;
    check_number("guidance_interval", start, 1);
    check_number("guidance_interval", stop, 1);
    if (start > stop) {
      refuse_range("guidance_interval", "(" + text::python_repr(start) + ", " + text::python_repr(stop) + ")",
                   "two rising shares of the steps, 0 to 1");
    }
  }
}

Plan make_plan(const Request& request, const Manifest& manifest, const SolverTable& table, std::uint64_t seed,
               std::uint32_t image) {
  if (manifest.state_rows != static_cast<std::int64_t>(kStateRows)) {
    throw BundleError("the bundle's step graph has " + std::to_string(manifest.state_rows) + " state rows",
                      std::to_string(kStateRows), "export the bundle again with this version");
  }
  const Defaults& defaults = manifest.defaults;
  const GuidanceRules& guidance = manifest.guidance;
  Plan plan;
  const std::string solver = request.solver && !request.solver->empty() ? *request.solver : defaults.solver;
  plan.solver = table.steps(solver, request.steps.value_or(static_cast<int>(defaults.steps)),
                            request.strength.value_or(defaults.strength));
  const Rows rows = guidance_rows(request.guidance.value_or(guidance.scale),
                                  request.identity_guidance.value_or(guidance.identity), guidance.forms);
  const auto [start, stop] = request.guidance_interval.value_or(std::pair{guidance.interval[0], guidance.interval[1]});
  plan.rows = guided_steps(rows, plan.steps(), start, stop);
  for (const SolverMatrix& matrix : plan.solver.matrix) plan.is_noisy.push_back(draws_noise(matrix));
  plan.identity_scale = request.identity_scale;
  plan.guidance_rescale = request.guidance_rescale.value_or(guidance.rescale);
  plan.reinject = request.reinject.value_or(manifest.reinject);
  plan.seed = seed;
  plan.image = image;
  return plan;
}

}  // namespace alterbute
