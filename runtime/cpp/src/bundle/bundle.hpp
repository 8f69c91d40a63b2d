// The files of a bundle: opened without following links, and hashed each time they are read.
#pragma once

#include <string>
#include <vector>

#include "bundle/manifest.hpp"
#include "bundle/signature.hpp"

namespace alterbute {

using Bytes = std::vector<char>;

// A bundle folder whose manifest is checked; its bytes are checked each time they are read.
class Bundle {
 public:
  // Checks the manifest and the file list, without hashing. Throws BundleError: no such folder, a bad manifest, or a
  // file that is missing, unknown, a link or missized; or, if keys are given, none of them signed the manifest.
  static Bundle open(const std::string& folder, const std::vector<TrustKey>& trust_keys = {});

  // The bytes of one file, hashed after they were read: what is returned is what was verified. Throws BundleError.
  Bytes read(const std::string& name) const;

  // Hashes every file, in constant memory. Throws BundleError.
  void verify() const;

  bool has(const std::string& name) const { return find(manifest_.files, name) != nullptr; }
  const Manifest& manifest() const { return manifest_; }
  const std::string& path() const { return path_; }

 private:
  Bundle(std::string path, Manifest manifest) : path_(std::move(path)), manifest_(std::move(manifest)) {}

  std::string path_;
  Manifest manifest_;
};

}  // namespace alterbute
