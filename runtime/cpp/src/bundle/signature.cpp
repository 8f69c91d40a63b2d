#include "bundle/signature.hpp"

#include <openssl/evp.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>

#include "alterbute/errors.hpp"
#include "bundle/manifest.hpp"
#include "bundle/sha256.hpp"
#include "base/text.hpp"
#include "bundle/typed_json.hpp"

namespace alterbute {
namespace {

constexpr std::size_t kKeyBytes = 32, kSignatureBytes = 64;
// Signed before the manifest's bytes, so that a signature made for anything else is never valid for a bundle.
constexpr std::string_view kDomain = "alterbute bundle manifest 1\n";
constexpr const char* kMend = "get the bundle from a source that you trust, or trust its signer's key";
constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// Nothing when the text is no base64.
std::optional<std::string> decode_base64(std::string_view text) {
  const std::size_t end = text.find('=') == std::string_view::npos ? text.size() : text.find('=');
  const std::size_t padding = text.size() - end;
  if (padding > 2 || text.find_first_not_of('=', end) != std::string_view::npos || end % 4 == 1 ||
      (end % 4 != 0 && end % 4 + padding < 4))
    return std::nullopt;
  std::string data;
  std::uint32_t bits = 0;
  for (std::size_t at = 0; at < end; ++at) {
    const std::size_t value = kAlphabet.find(text[at]);
    if (value == std::string_view::npos) return std::nullopt;
    bits = bits << 6U | static_cast<std::uint32_t>(value);
    if (at % 4 != 0) data += static_cast<char>(bits >> (6 - 2 * (at % 4)));
  }
  return data;
}

[[noreturn]] void refuse_key(const std::string& seen) {
  throw InputError(seen, "an Ed25519 public key of 32 bytes", "give the .pub file of `alterbute-export sign`",
                   "trust_keys", "key_unusable");
}

TrustKey read_key(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) refuse_key("the key " + path + " cannot be read (" + std::strerror(errno) + ")");
  std::string text(kSignatureLimitBytes, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  const std::size_t start = text.find_first_not_of(" \t\n\r\f\v"), end = text.find_last_not_of(" \t\n\r\f\v");
  const auto data = decode_base64(start == std::string::npos ? std::string() : text.substr(start, end + 1 - start));
  if (!data) refuse_key("the key " + path + " is not base64");
  if (data->size() != kKeyBytes) refuse_key(path + " has " + std::to_string(data->size()) + " bytes");
  return {*data, sha256_hex(data->data(), data->size()).substr(0, 16)};
}

struct Signature {
  std::string key, data;
};

Signature read_signature(const std::string& text) {
  std::string fault;
  try {
    const Json document = parse_json(text);
    const typed::Record record(document, "", {"algorithm", "key", "signature"});
    typed::choice(record.at("algorithm"), "algorithm", {"ed25519"});
    return {typed::string(record.at("key"), "key"), typed::string(record.at("signature"), "signature")};
  } catch (const typed::KeyFault& wrong) {
    fault = "key `" + wrong.key + "` is " + wrong.seen;
  } catch (const JsonFault& wrong) {
    fault = wrong.what();
  }
  throw BundleError(std::string(kSignatureFile) + " is malformed (" + fault + ")", "an Ed25519 signature", kMend);
}

bool is_signed_by(const TrustKey& key, const std::string& signature, std::string_view manifest) {
  const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> public_key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, reinterpret_cast<const unsigned char*>(key.data.data()),
                                  key.data.size()),
      EVP_PKEY_free);
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  if (public_key == nullptr || context == nullptr ||
      EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, public_key.get()) != 1)
    return false;
  const std::string text = std::string(kDomain) + std::string(manifest);
  return EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(signature.data()), signature.size(),
                          reinterpret_cast<const unsigned char*>(text.data()), text.size()) == 1;
}

std::string first_points(const std::string& bytes, std::size_t count) {
  const auto points = text::decode(bytes);
  return points ? text::encode(points->substr(0, count)) : bytes.substr(0, count);
}

}  // namespace

std::vector<TrustKey> read_trust_keys(const std::vector<std::string>& files) {
  std::vector<TrustKey> keys;
  for (const std::string& file : files) keys.push_back(read_key(file));
  return keys;
}

void check_signature(std::string_view manifest, const std::optional<std::string>& text,
                     const std::vector<TrustKey>& keys) {
  std::vector<std::string> names;
  for (const TrustKey& key : keys) names.push_back(key.name);
  const std::string trusted = text::join(names, ", ");
  if (!text)
    throw BundleError("the bundle is not signed", std::string(kSignatureFile) + " by one of the keys " + trusted,
                      kMend);
  const Signature signature = read_signature(*text);
  for (const TrustKey& key : keys) {
    if (key.name != signature.key) continue;
    const auto data = decode_base64(signature.data);
    if (!data || data->size() != kSignatureBytes)
      throw BundleError(std::string(kSignatureFile) + " is malformed", "64 bytes in base64", kMend);
    if (!is_signed_by(key, *data, manifest)) {
      throw BundleError(
          "the signature of key " + key.name + " does not fit manifest.json", "the manifest that was signed",
          "the bundle was altered after it was signed: get it again, or sign it again if the change was yours");
    }
    return;
  }
  throw BundleError("the bundle is signed by key " + text::python_repr(first_points(signature.key, 32)),
                    "one of " + trusted, kMend);
}

}  // namespace alterbute
