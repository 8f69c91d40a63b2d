// Bounds of everything in a manifest that has a size, the same as those of the Python module `alterbute.bundle.manifest_limits`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "bundle/json.hpp"
#include "bundle/manifest.hpp"

namespace alterbute {

constexpr std::int64_t kGraphLimitBytes = 256 << 20, kTokenizerLimitBytes = 16 << 20;
// Of id and start of a prompt, as in its tokenizer.
constexpr std::int64_t kMaxTokenId = (1 << 20) - 1;
constexpr std::int64_t kTimeIds = 6;
// Rows of the step graph's state.
constexpr std::int64_t kManifestStateRows = 4;

// All throw typed::KeyFault with the key.
// Texts and lists of a parsed manifest, before it is converted.
void check_document(const Json& document);
// Every number, count and name; `document` is what the manifest was made of.
void check_limits(const Manifest& manifest, const Json& document);
// What Python's solvers refuse of a scheduler at a glance: solvers are numbers here, and nothing else reads it.
void check_training(const Json& config);
void check_count(const std::string& key, std::size_t count, std::size_t most, std::size_t least = 0);
void check_text(const std::string& key, std::string_view text, std::size_t most, std::size_t least = 0);
void check_digest(const std::string& key, const std::string& digest);
void check_number(const std::string& key, std::int64_t value, double least, double most);
void check_number(const std::string& key, double value, double least, double most);

}  // namespace alterbute
