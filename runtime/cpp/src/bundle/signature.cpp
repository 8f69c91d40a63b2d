#include "bundle/signature.hpp"

#include <fcntl.h>
#include <openssl/bn.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <new>

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

// A plain file's first bytes. A FIFO or device is never waited for.
std::string read_key_file(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  const std::unique_ptr<const int, void (*)(const int*)> closes(
      &descriptor, [](const int* open_file) { if (*open_file >= 0) ::close(*open_file); });
  struct stat status {};
  const auto refuse_file = [&](const char* why) { refuse_key("the key " + path + " cannot be read (" + why + ")"); };
  if (descriptor < 0 || ::fstat(descriptor, &status) != 0) refuse_file(std::strerror(errno));
  if (!S_ISREG(status.st_mode)) refuse_file(S_ISDIR(status.st_mode) ? std::strerror(EISDIR) : "it is a pipe or a device");
  std::string text(kSignatureLimitBytes, '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = ::read(descriptor, text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) refuse_file(std::strerror(errno));
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  text.resize(done);
  return text;
}

using Number = std::unique_ptr<BIGNUM, void (*)(BIGNUM*)>;

Number number_of(const char* digits) {
  BIGNUM* number = nullptr;
  if (BN_hex2bn(&number, digits) == 0) throw std::bad_alloc();
  return {number, BN_free};
}

// Whether 32 bytes are the canonical form of a point that can verify signatures (RFC 8032, section 5.1.3): y below
// p = 2^255 - 19, on the curve, and of none of the eight points of small order, which fit forged signatures.
bool is_usable_point(const std::string& key) {
  constexpr const char* kPrime = "7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFED";
  constexpr const char* kCurve = "52036CEE2B6FFE738CC740797779E89800700A4D4141D8AB75EB4DCA135978A3";  // d
  // y of the points of order 8, but for its sign.
  constexpr const char* kOrder8 = "05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826";
  const Number prime = number_of(kPrime), curve = number_of(kCurve), order8 = number_of(kOrder8);
  std::string bytes(key.rbegin(), key.rend());
  bytes[0] = static_cast<char>(bytes[0] & 0x7F);  // without the sign of x
  const std::unique_ptr<BN_CTX, void (*)(BN_CTX*)> context(BN_CTX_new(), BN_CTX_free);
  const Number y(BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()), nullptr),
                 BN_free);
  const Number negative(BN_new(), BN_free), square(BN_new(), BN_free), above(BN_new(), BN_free), below(BN_new(), BN_free),
      power(BN_new(), BN_free);
  if (!context || !y || !negative || !square || !above || !below || !power) throw std::bad_alloc();
  if (BN_cmp(y.get(), prime.get()) >= 0) return false;
  // x^2 = (y^2 - 1) / (d y^2 + 1) has a root exactly if the product of the two is a square (Euler's criterion).
  const bool is_done = BN_mod_sub(negative.get(), prime.get(), y.get(), prime.get(), context.get()) == 1 &&
                       BN_mod_sqr(square.get(), y.get(), prime.get(), context.get()) == 1 &&
                       BN_mod_sub(above.get(), square.get(), BN_value_one(), prime.get(), context.get()) == 1 &&
                       BN_mod_mul(below.get(), curve.get(), square.get(), prime.get(), context.get()) == 1 &&
                       BN_mod_add(below.get(), below.get(), BN_value_one(), prime.get(), context.get()) == 1 &&
                       BN_mod_mul(above.get(), above.get(), below.get(), prime.get(), context.get()) == 1 &&
                       BN_rshift1(power.get(), prime.get()) == 1 &&
                       BN_mod_exp(above.get(), above.get(), power.get(), prime.get(), context.get()) == 1;
  if (!is_done) throw std::bad_alloc();
  for (const BIGNUM* sign : {y.get(), negative.get()})
    if (BN_is_zero(sign) || BN_is_one(sign) || BN_cmp(sign, order8.get()) == 0) return false;
  return BN_is_one(above.get());
}

TrustKey read_key(const std::string& path) {
  if (path.empty()) refuse_key("the key's path is empty");
  const std::string text = read_key_file(path);
  const std::size_t start = text.find_first_not_of(" \t\n\r\f\v"), end = text.find_last_not_of(" \t\n\r\f\v");
  const auto data = decode_base64(start == std::string::npos ? std::string() : text.substr(start, end + 1 - start));
  if (!data) refuse_key("the key " + path + " is not base64");
  if (data->size() != kKeyBytes) refuse_key(path + " has " + std::to_string(data->size()) + " bytes");
  if (!is_usable_point(*data)) refuse_key(path + " is no key that a signer can have: signatures that anyone can make would fit it");
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
  throw BundleError("the bundle is signed by key " + text::python_repr(text::first_points(signature.key, 32)),
                    "one of " + trusted, kMend);
}

}  // namespace alterbute
