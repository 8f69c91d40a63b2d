// Prompts to CLIP's byte-pair ids: what the tokenizers library makes of a CLIP `tokenizer.json`, without it.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "bundle/manifest.hpp"

namespace alterbute {

struct Json;

class Tokenizer {
 public:
  // Reads a `tokenizer.json` of CLIP's kind. Throws BundleError: it is not JSON, of another kind, or lacks an id of the
  // rules; the part is named.
  Tokenizer(std::string_view tokenizer_json, const TextRules& rules);

  // Start id, the prompt, end id, pad ids: as many as the window holds. Throws InputError: not UTF-8, or longer than
  // the window; a prompt is never shortened to fit.
  std::vector<std::int64_t> encode(std::string_view prompt) const;

 private:
  // A token that is found in the text before words are, such as one of a Textual Inversion.
  struct AddedToken {
    std::u32string content;
    std::int64_t id;
  };
  struct Merge {
    std::uint32_t rank, id;
  };
  class Word;

  void read_added(const Json& tokens);
  void read_model(const Json& model);
  void encode_text(std::u32string_view points, std::vector<std::int64_t>& ids) const;
  void encode_normal(std::u32string_view points, std::vector<std::int64_t>& ids) const;
  void encode_piece(std::u32string_view piece, std::vector<std::int64_t>& ids) const;
  void encode_word(std::string_view bytes, std::vector<std::int64_t>& ids) const;

  TextRules rules_;
  std::vector<std::u32string> literals_;  // alternatives of the regular expression that are tried first
  bool splits_literals_ = true;
  std::vector<AddedToken> raw_, normal_;
  std::vector<std::int64_t> byte_ids_, last_byte_ids_;  // of a byte inside a word and at its end; -1: none
  std::unordered_map<std::uint64_t, Merge> merges_;
};

// Refuses invalid UTF-8, and text so long that tokenizing it would take seconds. Throws InputError; returns the code
// points.
std::u32string check_text(std::string_view prompt);

// Refuses a prompt that names an attribute which the bundle cannot change at all. Throws InputError.
void check_attributes(std::string_view prompt, const std::optional<Named<std::vector<std::string>>>& attributes);

// The attributes that a prompt names; "" stands for words that belong to no attribute.
std::set<std::string> named_attributes(std::string_view prompt,
                                       const std::optional<Named<std::vector<std::string>>>& attributes);

// One line that names the words that are not in a bundle's vocabulary, and the vocabulary; empty when all are in it.
std::string vocabulary_warning(std::string_view prompt,
                               const std::optional<Named<std::vector<std::string>>>& attributes);

}  // namespace alterbute
