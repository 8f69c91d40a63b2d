#include "bundle/bundle.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <optional>

#include "alterbute/errors.hpp"
#include "bundle/sha256.hpp"
#include "base/text.hpp"

namespace alterbute {
namespace {

constexpr std::size_t kManifestLimitBytes = 4U << 20;
constexpr std::size_t kChunkBytes = 1U << 20;
constexpr const char* kCopyAgain = "copy the whole bundle folder again";

// A path as pathlib writes it: no doubled, single-dot or trailing parts.
std::string tidy(const std::string& path) {
  std::string tidied = !path.empty() && path[0] == '/' ? "/" : "";
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string part = path.substr(at, end - at);
    if (!part.empty() && part != ".") tidied += (tidied.empty() || tidied == "/" ? "" : "/") + part;
    at = end + 1;
  }
  return tidied.empty() ? "." : tidied;
}

class File {
 public:
  File(const std::string& folder, const std::string& name);
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  std::int64_t size() const { return status_.st_size; }
  // Reads until `size` bytes or the end of the file; the number of bytes read.
  std::size_t read(char* to, std::size_t size) const;

 private:
  int descriptor_;
  std::string name_;
  struct stat status_ {};
};

void check_kind(const std::string& name, const struct stat& status) {
  if (!S_ISREG(status.st_mode)) {
    throw BundleError("the bundle's " + text::python_repr(name) + " is a link, a deeper folder or a device",
                      "plain files, at most one folder deep", "copy the bundle with plain files (cp -rL)");
  }
  // Through a second hard link another user could replace the bytes under a running server.
  if (status.st_nlink > 1 && (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    throw BundleError("the bundle's " + text::python_repr(name) + " is hard-linked and writable by others",
                      "a file with one name, or one that only its owner can write",
                      "copy the bundle afresh, or run `chmod go-w` on it");
  }
}

[[noreturn]] void refuse_open(const std::string& name, int fault) {
  // ELOOP is how O_NOFOLLOW reports a symbolic link.
  throw BundleError("the bundle's file " + text::python_repr(name) + " cannot be opened (" + std::strerror(fault) + ")",
                    "a readable plain file, not a link", "copy the bundle with plain files");
}

File::File(const std::string& folder, const std::string& name) : name_(name) {
  // O_NONBLOCK: opening a FIFO must not hang.
  descriptor_ = ::open((folder + "/" + name).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (descriptor_ < 0 && errno == ENOENT) {
    throw BundleError("the bundle " + folder + " has no " + name, "a complete bundle", kCopyAgain);
  }
  if (descriptor_ < 0) refuse_open(name, errno);
  try {
    if (::fstat(descriptor_, &status_) != 0) refuse_open(name, errno);
    check_kind(name, status_);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

std::size_t File::read(char* to, std::size_t size) const {
  std::size_t done = 0;
  while (done < size) {
    const ssize_t count = ::read(descriptor_, to + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) refuse_open(name_, errno);
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

void check_size(const std::string& name, std::int64_t size, const FileEntry& entry) {
  if (size != entry.size) {
    throw BundleError("the bundle's " + text::python_repr(name) + " has " + std::to_string(size) + " bytes",
                      std::to_string(entry.size), kCopyAgain);
  }
}

void check_hash(const std::string& name, const std::string& digest, const FileEntry& entry) {
  if (digest != entry.sha256) {
    throw BundleError("the bundle's " + text::python_repr(name) + " has SHA-256 " + digest.substr(0, 12) + "...",
                      entry.sha256.substr(0, 12) + "...",
                      "the file was damaged or altered: get the bundle again from a source that you trust");
  }
}

std::vector<std::string> list_folder(const std::string& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(folder.c_str()), ::closedir);
  if (stream == nullptr) refuse_open(folder, errno);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

struct stat status_of(const std::string& path, const std::string& name) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) refuse_open(name, errno);
  return status;
}

// Name and size of every file, one folder deep as the manifest allows; links and devices are refused.
std::map<std::string, std::int64_t> walk(const std::string& folder) {
  std::map<std::string, std::int64_t> found;
  std::vector<std::string> prefixes = {""};
  for (const std::string& name : list_folder(folder)) {
    if (S_ISDIR(status_of(folder + "/" + name, name).st_mode)) prefixes.push_back(name + "/");
  }
  for (const std::string& prefix : prefixes) {
    for (const std::string& entry : list_folder(folder + "/" + prefix)) {
      const std::string name = prefix + entry;
      const struct stat status = status_of(folder + "/" + name, name);
      if (prefix.empty() && S_ISDIR(status.st_mode)) continue;
      check_kind(name, status);
      found[name] = status.st_size;
    }
  }
  return found;
}

std::string read_manifest_text(const std::string& folder) {
  struct stat status {};
  const bool exists = ::stat(folder.c_str(), &status) == 0;
  if (!exists || !S_ISDIR(status.st_mode)) {
    throw BundleError("the bundle " + folder + (exists ? " is not a folder" : " does not exist"),
                      "a folder with manifest.json", "give the bundle's folder");
  }
  const File file(folder, kManifestFile);
  std::string text(kManifestLimitBytes + 1, '\0');
  text.resize(file.read(text.data(), text.size()));
  if (text.size() > kManifestLimitBytes) {
    throw BundleError(std::string(kManifestFile) + " is over " + std::to_string(kManifestLimitBytes) + " bytes",
                      "a small JSON file", "export the bundle again");
  }
  return text;
}

// The signature file, at most 4 KiB of it and never through a link; nothing where there is none.
std::optional<std::string> read_signature(const std::string& folder) {
  struct stat status {};
  if (::lstat((folder + "/" + kSignatureFile).c_str(), &status) != 0) return std::nullopt;
  const File file(folder, kSignatureFile);
  std::string text(kSignatureLimitBytes, '\0');
  text.resize(file.read(text.data(), text.size()));
  return text;
}

}  // namespace

Bundle Bundle::open(const std::string& path, const std::vector<TrustKey>& trust_keys) {
  const std::string folder = tidy(path);
  const std::string text = read_manifest_text(folder);
  // Before anything is parsed: bytes of an untrusted source reach no parser.
  if (!trust_keys.empty()) check_signature(text, read_signature(folder), trust_keys);
  Manifest manifest = parse_manifest(text);
  const std::map<std::string, std::int64_t> files = walk(folder);
  for (const auto& [name, size] : files) {
    if (name != kManifestFile && name != kSignatureFile && find(manifest.files, name) == nullptr) {
      throw BundleError("the bundle holds " + text::python_repr(name) + ", which its manifest does not list",
                        "only files of the manifest", "remove that file, or export the bundle again");
    }
  }
  for (const auto& [name, entry] : manifest.files) {
    const auto file = files.find(name);
    if (file == files.end()) {
      throw BundleError("the bundle's file " + text::python_repr(name) + " is missing",
                        std::to_string(entry.size) + " bytes", kCopyAgain);
    }
    check_size(name, file->second, entry);
  }
  return {folder, std::move(manifest)};
}

Bytes Bundle::read(const std::string& name) const {
  const FileEntry* entry = find(manifest_.files, name);
  if (entry == nullptr) {
    throw BundleError("the bundle " + path_ + " lists no file " + text::python_repr(name), "a file of its manifest",
                      "export the bundle again");
  }
  const File file(path_, name);
  check_size(name, file.size(), *entry);
  Bytes data(static_cast<std::size_t>(entry->size));
  data.resize(file.read(data.data(), data.size()));
  check_hash(name, sha256_hex(data.data(), data.size()), *entry);
  return data;
}

void Bundle::verify() const {
  Bytes chunk(kChunkBytes);
  for (const auto& [name, entry] : manifest_.files) {
    const File file(path_, name);
    Sha256 digest;
    while (const std::size_t count = file.read(chunk.data(), chunk.size())) digest.update(chunk.data(), count);
    check_hash(name, digest.hex(), entry);
  }
}

}  // namespace alterbute
