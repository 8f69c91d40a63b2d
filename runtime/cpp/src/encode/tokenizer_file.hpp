// A bundle's `tokenizer.json`, checked in whole before any of it is used. The Python module
// `alterbute.encode.tokenizer_file` accepts the same.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <unordered_set>

#include "bundle/json.hpp"

namespace alterbute {

// CLIP's regular expression, and what goes before it where start and end are typed out.
constexpr std::string_view kWordPattern = R"('s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";
constexpr std::string_view kLiteralPattern = R"(<\|startoftext\|>|<\|endoftext\|>|)";

struct TokenizerFault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct TokenizerFile {
  Json document;
  std::unordered_set<std::int64_t> ids;
};

// Throws TokenizerFault: not JSON, or no tokenizer of CLIP's kind; the message names the place.
TokenizerFile read_tokenizer_file(std::string_view text);

}  // namespace alterbute
