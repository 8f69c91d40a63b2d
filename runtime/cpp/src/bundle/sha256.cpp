#include "bundle/sha256.hpp"

#include <openssl/evp.h>

#include <array>
#include <new>

#include "alterbute/errors.hpp"

namespace alterbute {
namespace {

void check(int result) {
  if (result != 1)
    throw EngineError("libcrypto cannot compute SHA-256", "an OpenSSL that offers it",
                      "check the OpenSSL installation and its configuration");
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  if (context_ == nullptr) throw std::bad_alloc();
  try {
    check(EVP_DigestInit_ex(context_, EVP_sha256(), nullptr));
  } catch (...) {
    EVP_MD_CTX_free(context_);
    throw;
  }
}

Sha256::~Sha256() { EVP_MD_CTX_free(context_); }

void Sha256::update(const void* data, std::size_t size) { check(EVP_DigestUpdate(context_, data, size)); }

std::string Sha256::hex() {
  std::array<unsigned char, 32> digest{};
  check(EVP_DigestFinal_ex(context_, digest.data(), nullptr));
  std::string digits;
  for (const unsigned char byte : digest) {
    digits += "0123456789abcdef"[byte >> 4U];
    digits += "0123456789abcdef"[byte & 0xFU];
  }
  return digits;
}

std::string sha256_hex(const void* data, std::size_t size) {
  Sha256 digest;
  digest.update(data, size);
  return digest.hex();
}

}  // namespace alterbute
