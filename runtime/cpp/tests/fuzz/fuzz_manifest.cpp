// Any bytes are a manifest or are refused with a BundleError.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "alterbute/errors.hpp"
#include "bundle/manifest.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    alterbute::parse_manifest({reinterpret_cast<const char*>(data), size});
  } catch (const alterbute::BundleError&) {
  }
  return 0;
}
