// Ed25519 signature of the manifest's bytes, checked before the manifest is parsed. The Python module
// `alterbute.bundle.signature` describes the file `manifest.sig`.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace alterbute {

constexpr std::size_t kSignatureLimitBytes = 4096;

// An Ed25519 public key, 32 bytes, and sixteen hexadecimal digits that identify it.
struct TrustKey {
  std::string data, name;
};

// From files that hold a key in base64, as `alterbute-export sign` writes them. Throws InputError.
std::vector<TrustKey> read_trust_keys(const std::vector<std::string>& files);

// Throws BundleError unless one of the keys signed these manifest bytes; `text` is `manifest.sig`, if there is one.
void check_signature(std::string_view manifest, const std::optional<std::string>& text,
                     const std::vector<TrustKey>& keys);

}  // namespace alterbute
