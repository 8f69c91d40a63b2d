#include "denoise/solver_table.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "alterbute/errors.hpp"
#include "bundle/safetensors.hpp"
#include "base/text.hpp"

namespace alterbute {
namespace {

constexpr const char* kVersion = "1";
constexpr std::size_t kMaxDigits = 6;
constexpr std::array<const char*, 5> kParts = {"timestep", "matrix", "level", "start", "offset"};

[[noreturn]] void refuse(const std::string& seen, const std::string& expected) {
  throw BundleError("the bundle's solver table " + seen, expected, "export the bundle again");
}

// A value of the metadata as Python would print it.
std::string about(const Safetensors& file, const char* name) {
  const Json* value = file.about.find(name);
  if (value == nullptr || value->kind == Json::Kind::null) return "None";
  return value->kind == Json::Kind::string ? value->text : dump_json(*value);
}

std::string repr(const std::string& value) { return value == "None" ? value : text::python_repr(value); }

// Python's split(): at any run of ASCII white space.
std::vector<std::string> split(const std::string& words) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; (at = words.find_first_not_of(" \t\n\r\f\v", at)) != std::string::npos;) {
    const std::size_t end = std::min(words.find_first_of(" \t\n\r\f\v", at), words.size());
    parts.push_back(words.substr(at, end - at));
    at = end;
  }
  return parts;
}

template <typename Number>
std::vector<Number> numbers(const SafetensorsTensor& tensor) {
  static_assert(sizeof(Number) == 4 || sizeof(Number) == 8);
  std::vector<Number> values(tensor.bytes.size() / sizeof(Number));
  if (!values.empty()) std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

bool all_finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

}  // namespace

SolverTable::SolverTable(std::string_view data) {
  Safetensors file;
  try {
    file = read_safetensors(data);
  } catch (const SafetensorsFault& fault) {
    refuse(fault.seen, fault.expected);
  }
  const std::string rows = std::to_string(kStateRows);
  if (about(file, "version") != kVersion || about(file, "state_rows") != rows) {
    refuse("is of version " + repr(about(file, "version")) + " with " + repr(about(file, "state_rows")) + " state rows",
           "version " + text::python_repr(kVersion) + " with " + text::python_repr(rows));
  }
  spacing_ = about(file, "spacing");
  names_ = split(about(file, "solvers"));
  std::vector<std::string> wanted, found;
  for (const std::string& name : names_) {
    for (const char* part : kParts) wanted.push_back(name + "." + part);
  }
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  for (const auto& [name, tensor] : file.tensors) found.push_back(name);
  if (names_.empty() || found != wanted)
    refuse("has the tensors " + text::python_repr(found).substr(0, 200), text::python_repr(wanted).substr(0, 200) + ", of its solvers");
  const std::string limit = about(file, "max_steps");
  if (limit.empty() || limit.size() > kMaxDigits || limit.find_first_not_of("0123456789") != std::string::npos) {
    refuse("has max_steps " + text::python_repr(limit).substr(0, 20), "a number of steps");
  }
  std::from_chars(limit.data(), limit.data() + limit.size(), max_steps_);
  for (const std::string& name : names_) {
    const auto tensor = [&](const char* part) -> const SafetensorsTensor& {
      return file.tensors.at(name + "." + part);
    };
    const auto& shape = tensor("matrix").shape;
    const std::int64_t calls = tensor("timestep").shape.empty() ? 0 : tensor("timestep").shape[0],
                       used = shape.size() == 3 ? shape[1] : 0;
    const std::array<std::vector<std::int64_t>, 5> shapes = {
        {{calls}, {calls, used, used + 2}, {calls, 2}, {max_steps_, 2}, {max_steps_ + 1}}};
    for (std::size_t k = 0; k < kParts.size(); ++k) {
      const SafetensorsTensor& part = tensor(kParts[k]);
      const bool is_whole = kParts[k] == std::string("offset");
      if (part.shape != shapes[k] || part.dtype != (is_whole ? "I64" : "F32")) {
        refuse("has " + name + "." + kParts[k] + " " + (part.dtype == "I64" ? "int64" : "float32") + text::python_repr(part.shape),
               "shape " + text::python_repr(shapes[k]));
      }
    }
    Solver solver{static_cast<std::size_t>(used),   numbers<float>(tensor("timestep")),
                  numbers<float>(tensor("matrix")), numbers<float>(tensor("level")),
                  numbers<float>(tensor("start")),  numbers<std::int64_t>(tensor("offset"))};
    const bool is_finite = all_finite(solver.timestep) && all_finite(solver.matrix) && all_finite(solver.level) &&
                           all_finite(solver.start);
    if (used < 1 || used > static_cast<std::int64_t>(kStateRows) || !is_finite) {
      refuse("has " + std::to_string(used) + " state rows or an infinite number in " + name,
             "1 to " + rows + ", all finite");
    }
    if (solver.offset.front() != 0 || solver.offset.back() != calls ||
        !std::is_sorted(solver.offset.begin(), solver.offset.end())) {
      refuse("has " + name + ".offset " + std::to_string(solver.offset.front()) + " to " +
                 std::to_string(solver.offset.back()),
             "a rise from 0 to " + std::to_string(calls));
    }
    solvers_[name] = std::move(solver);
  }
}

SolverSteps SolverTable::steps(const std::string& name, std::int64_t steps, double strength) const {
  const auto found = solvers_.find(name);
  if (found == solvers_.end()) {
    throw InputError("solver is " + text::python_repr(name), "one of " + text::join(names_, ", "),
                     "choose another solver", "solver", "solver_unknown");
  }
  const Solver& solver = found->second;
  const auto index = static_cast<std::size_t>(steps);
  if (steps < 1 || steps > max_steps_ || solver.offset[index - 1] == solver.offset[index]) {
    throw InputError("steps is " + std::to_string(steps), "a count that the table has for " + name,
                     "choose another steps", "steps", "steps_out_of_range");
  }
  const auto first = static_cast<std::size_t>(solver.offset[index - 1]),
             end = static_cast<std::size_t>(solver.offset[index]);
  SolverSteps made;
  for (std::size_t call = first; call < end; ++call) {
    made.timestep.push_back(solver.timestep[call]);
    made.level.push_back({solver.level[2 * call], solver.level[2 * call + 1]});
    SolverMatrix matrix{};  // state rows that the solver does not use stay 0
    const float* source = &solver.matrix[call * solver.rows * (solver.rows + 2)];
    for (std::size_t row = 0; row < solver.rows; ++row) {
      for (std::size_t column = 0; column < solver.rows + 2; ++column) {
        const std::size_t place = column < solver.rows ? column : column - solver.rows + kStateRows;
        matrix[row * kSolverColumns + place] = *source++;
      }
    }
    made.matrix.push_back(matrix);
  }
  made.start = {solver.start[2 * (index - 1)], solver.start[2 * (index - 1) + 1]};
  if (strength == 1) return made;
  // A solver without state can start anywhere in its trajectory; a multistep solver's first steps differ from the
  // later ones.
  const auto skipped =
      static_cast<std::size_t>(steps) - static_cast<std::size_t>(static_cast<double>(steps) * strength);
  if (solver.rows != 1 || made.timestep.size() != index) {
    throw InputError("strength is " + text::python_repr(strength) + " with " + name,
                     "1, or a solver with one state row: ddim, euler, euler_a or lcm",
                     "choose another solver: the bundle's table has the whole trajectories of this one only",
                     "strength", "strength_unsupported");
  }
  if (skipped == index) {
    throw InputError(
        "strength is " + text::python_repr(strength),
        "at least " + text::general(1.0 / static_cast<double>(steps)) + " with " + std::to_string(steps) + " steps",
        "choose another strength", "strength", "strength_out_of_range");
  }
  if (skipped > 0) made.start = made.level[skipped - 1];
  const auto cut = static_cast<std::ptrdiff_t>(skipped);
  made.timestep.erase(made.timestep.begin(), made.timestep.begin() + cut);
  made.matrix.erase(made.matrix.begin(), made.matrix.begin() + cut);
  made.level.erase(made.level.begin(), made.level.begin() + cut);
  return made;
}

}  // namespace alterbute
