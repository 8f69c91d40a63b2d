// SHA-256 through OpenSSL's libcrypto.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

struct evp_md_ctx_st;

namespace alterbute {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(const void* data, std::size_t size);
  // 64 hexadecimal digits; nothing can be added afterwards.
  std::string hex();

 private:
  evp_md_ctx_st* context_;
};

std::string sha256_hex(const void* data, std::size_t size);

}  // namespace alterbute
