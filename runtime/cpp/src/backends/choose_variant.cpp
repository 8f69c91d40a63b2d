#include "backends/choose_variant.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <tuple>
#include <vector>

#include "alterbute/errors.hpp"
#include "base/text.hpp"

namespace alterbute {
namespace {

constexpr const char* kPlain = "onnxruntime";
constexpr const char* kCuda = "onnxruntime-cuda";
constexpr std::array<const char*, 3> kPreferred = {"fp16", "bf16", "fp32"};

// Smaller is better.
auto rank(const Variant& variant) {
  const auto* precision =
      std::find_if(kPreferred.begin(), kPreferred.end(), [&](const char* name) { return variant.precision == name; });
  return std::make_tuple(variant.backend != kCuda, precision - kPreferred.begin(), !variant.prologue);
}

std::vector<std::string> backends_of(const std::vector<Variant>& variants) {
  std::vector<std::string> backends;
  for (const Variant& variant : variants) backends.push_back(variant.backend);
  return backends;
}

}  // namespace

const Variant& cpu_variant(const Manifest& manifest, const std::string& graph) {
  const std::vector<Variant>& variants = manifest.graph(graph).variants;
  std::set<std::string> precisions;
  for (const Variant& variant : variants) {
    if (variant.backend == kPlain) return variant;
    precisions.insert(variant.precision);
  }
  throw BundleError("the bundle's graph " + text::python_repr(graph) + " is " +
                        text::join({precisions.begin(), precisions.end()}, " and ") + ", for " +
                        text::join(backends_of(variants), ", "),
                    std::string("a variant for ") + kPlain + ": the CPU runs fp32 and fp16 graphs",
                    "use a GPU backend, or export the bundle with --precision fp16 or fp32");
}

const Variant& cuda_variant(const Manifest& manifest, const std::string& graph, bool exact) {
  const std::vector<Variant>& variants = manifest.graph(graph).variants;
  const Variant* best = nullptr;
  for (const Variant& variant : variants) {
    const bool fits = (variant.backend == kCuda || variant.backend == kPlain) && (variant.is_deterministic || !exact);
    if (fits && (best == nullptr || rank(variant) < rank(*best))) best = &variant;
  }
  if (best != nullptr) return *best;
  const std::string seen = text::join(backends_of(variants), ", ");
  throw BundleError("the bundle's graph " + text::python_repr(graph) + " is for " + seen,
                    std::string("a variant for ") + kCuda + " or " + kPlain, "export the bundle again");
}

}  // namespace alterbute
