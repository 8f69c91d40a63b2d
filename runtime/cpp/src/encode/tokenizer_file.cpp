#include "encode/tokenizer_file.hpp"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/text.hpp"
#include "bundle/limits.hpp"

namespace alterbute {
namespace {

constexpr std::size_t kMaxDepth = 16, kMaxEntries = 1 << 20, kMaxAdded = 4096, kMaxText = 256, kMaxSuffix = 16;

using Vocabulary = std::unordered_map<std::string_view, std::int64_t>;

void expect(bool is_so, const std::string& otherwise) {
  if (!is_so) throw TokenizerFault(otherwise);
}

const Json& member(const Json& value, const char* name) {
  static const Json kNull;
  const Json* found = value.find(name);
  return found == nullptr ? kNull : *found;
}

bool is_text(const Json& value, std::string_view text) {
  return value.kind == Json::Kind::string && value.text == text;
}
bool is_flag(const Json& value, bool flag) { return value.kind == Json::Kind::boolean && value.flag == flag; }
bool is_null(const Json& value) { return value.kind == Json::Kind::null; }

// A text of `least` to `most` characters.
bool is_text_of(const Json& value, std::size_t least, std::size_t most) {
  if (value.kind != Json::Kind::string || value.text.size() > 4 * most) return false;
  const auto points = text::decode(value.text);
  return points && points->size() >= least && points->size() <= most;
}

bool is_id(const Json& value) {
  return value.kind == Json::Kind::integer && value.number >= 0 && value.number <= static_cast<double>(kMaxTokenId);
}

// An object with exactly these keys.
bool has_exactly(const Json& value, std::initializer_list<const char*> names) {
  return value.kind == Json::Kind::object && value.fields.size() == names.size() &&
         std::all_of(names.begin(), names.end(), [&](const char* name) { return value.find(name) != nullptr; });
}

// An object with no other keys.
void expect_keys(const Json& value, const char* what, std::initializer_list<const char*> names) {
  expect(value.kind == Json::Kind::object, std::string(what) + " is no object");
  for (const auto& [name, item] : value.fields) {
    expect(std::find(names.begin(), names.end(), name) != names.end(),
           std::string(what) + " has the unknown key " + text::python_repr(text::first_points(name, 40)));
  }
}

bool is_sequence(const Json& value, const char* steps, std::size_t count) {
  return has_exactly(value, {"type", steps}) && is_text(*value.find("type"), "Sequence") &&
         value.find(steps)->kind == Json::Kind::array && value.find(steps)->items.size() == count;
}

bool is_step(const Json& value, const char* type) {
  return has_exactly(value, {"type"}) && is_text(*value.find("type"), type);
}

bool is_pattern(const Json& value, std::string_view pattern) {
  return has_exactly(value, {"Regex"}) && is_text(*value.find("Regex"), pattern);
}

void check_normalizer(const Json& value) {
  const auto& steps = member(value, "normalizers").items;
  const bool is_clip = is_sequence(value, "normalizers", 3) && is_step(steps[0], "NFC") &&
                       has_exactly(steps[1], {"type", "pattern", "content"}) &&
                       is_text(*steps[1].find("type"), "Replace") && is_pattern(*steps[1].find("pattern"), "\\s+") &&
                       is_text(*steps[1].find("content"), " ") && is_step(steps[2], "Lowercase");
  expect(is_clip, "its normalizer is not CLIP's: NFC, white space to one space, lower case");
}

void check_pre_tokenizer(const Json& value) {
  constexpr const char* kOther = "its pre-tokenizer is not CLIP's: Split, then ByteLevel";
  expect(is_sequence(value, "pretokenizers", 2), kOther);
  const Json &split = value.find("pretokenizers")->items[0], &levels = value.find("pretokenizers")->items[1];
  const bool is_split = has_exactly(split, {"type", "pattern", "behavior", "invert"}) &&
                        is_text(*split.find("type"), "Split") && is_text(*split.find("behavior"), "Removed") &&
                        is_flag(*split.find("invert"), true);
  const std::string whole = std::string(kLiteralPattern) + std::string(kWordPattern);
  expect(is_split && (is_pattern(*split.find("pattern"), kWordPattern) || is_pattern(*split.find("pattern"), whole)),
         "its pre-tokenizer does not split as CLIP's do");
  expect_keys(levels, "ByteLevel", {"type", "add_prefix_space", "trim_offsets", "use_regex"});
  const Json* prefix = levels.find("add_prefix_space");
  expect(is_text(member(levels, "type"), "ByteLevel") && (prefix == nullptr || is_flag(*prefix, false)), kOther);
  for (const char* name : {"trim_offsets", "use_regex"}) {
    const Json* flag = levels.find(name);
    expect(flag == nullptr || flag->kind == Json::Kind::boolean, kOther);
  }
}

void check_merges(const Json& merges, const Vocabulary& vocabulary) {
  const std::string none = "its merges are no list of at most " + std::to_string(kMaxEntries);
  expect(merges.kind == Json::Kind::array && merges.items.size() <= kMaxEntries, none);
  std::unordered_set<std::string> seen;
  seen.reserve(merges.items.size());
  for (std::size_t rank = 0; rank < merges.items.size(); ++rank) {
    const Json& merge = merges.items[rank];
    std::string left, right;
    if (merge.kind == Json::Kind::string) {
      const std::size_t space = merge.text.find(' ');
      if (space != std::string::npos && merge.text.find(' ', space + 1) == std::string::npos) {
        left = merge.text.substr(0, space);
        right = merge.text.substr(space + 1);
      }
    } else if (merge.items.size() == 2 && merge.items[0].kind == Json::Kind::string &&
               merge.items[1].kind == Json::Kind::string) {
      left = merge.items[0].text;
      right = merge.items[1].text;
    }
    expect(!left.empty() && !right.empty(), "merge " + std::to_string(rank) + " is no pair");
    expect(vocabulary.count(left) != 0 && vocabulary.count(right) != 0 && vocabulary.count(left + right) != 0,
           "merge " + std::to_string(rank) + " needs an entry that its vocabulary lacks");
    expect(seen.insert(std::to_string(left.size()) + left + right).second, "a merge is there twice");
  }
}

Vocabulary check_model(const Json& model) {
  expect_keys(model, "the model",
              {"type", "unk_token", "end_of_word_suffix", "vocab", "merges", "dropout", "continuing_subword_prefix",
               "fuse_unk", "byte_fallback", "ignore_merges"});
  expect(is_text(member(model, "type"), "BPE"), "its model is not BPE");
  expect(is_null(member(model, "dropout")), "its model has dropout");
  const Json& prefix = member(model, "continuing_subword_prefix");
  expect(is_null(prefix) || is_text(prefix, ""), "its model has continuing_subword_prefix");
  for (const char* name : {"fuse_unk", "byte_fallback", "ignore_merges"}) {
    const Json* flag = model.find(name);
    expect(flag == nullptr || is_flag(*flag, false), std::string("its model has ") + name);
  }
  const Json& suffix = member(model, "end_of_word_suffix");
  expect(is_null(suffix) || is_text_of(suffix, 0, kMaxSuffix), "its end_of_word_suffix is too long");
  const Json& entries = member(model, "vocab");
  expect(entries.kind == Json::Kind::object && !entries.fields.empty() && entries.fields.size() <= kMaxEntries,
         "its vocabulary has not 1 to " + std::to_string(kMaxEntries) + " entries");
  Vocabulary vocabulary;
  vocabulary.reserve(entries.fields.size());
  std::unordered_set<std::int64_t> ids;
  for (const auto& [token, id] : entries.fields) {
    const auto points = token.size() > 4 * kMaxText ? std::nullopt : text::decode(token);
    expect(points && !points->empty() && points->size() <= kMaxText, "an entry of its vocabulary is too long");
    expect(is_id(id), "an id of its vocabulary is out of range");
    vocabulary[token] = static_cast<std::int64_t>(id.number);
    expect(ids.insert(vocabulary[token]).second, "two entries of its vocabulary have one id");
  }
  const Json& unknown = member(model, "unk_token");
  expect(is_null(unknown) || (unknown.kind == Json::Kind::string && vocabulary.count(unknown.text) != 0),
         "its unk_token is not in its vocabulary");
  check_merges(member(model, "merges"), vocabulary);
  return vocabulary;
}

// Checks the added tokens, and puts their ids to those of the vocabulary.
void check_added(const Json& tokens, const Vocabulary& vocabulary, std::unordered_set<std::int64_t>& ids) {
  expect(tokens.kind == Json::Kind::array && tokens.items.size() <= kMaxAdded,
         "its added_tokens are no list of at most " + std::to_string(kMaxAdded));
  std::unordered_set<std::int64_t> known, taken;
  for (const auto& [token, id] : vocabulary) known.insert(id);
  std::unordered_set<std::string_view> contents;
  for (const Json& token : tokens.items) {
    expect_keys(token, "an added token",
                {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    const Json &content = member(token, "content"), &number = member(token, "id");
    expect(is_text_of(content, 1, kMaxText) && contents.insert(content.text).second,
           "an added token has no text of its own");
    expect(is_id(number), "an added token has an id that is out of range");
    const auto flag = [&](const char* name) {
      const Json* value = token.find(name);
      expect(value == nullptr || value->kind == Json::Kind::boolean, "an added token has a flag that is no flag");
      return value != nullptr && value->flag;
    };
    flag("normalized");
    const bool is_greedy = flag("single_word") | flag("lstrip") | flag("rstrip"), is_special = flag("special");
    expect(is_special || !is_greedy, "an added token takes white space or whole words only");
    const auto id = static_cast<std::int64_t>(number.number);
    const auto own = vocabulary.find(content.text);
    expect(own != vocabulary.end() ? own->second == id : known.count(id) == 0 && taken.count(id) == 0,
           "an added token has another's id");
    taken.insert(id);
  }
  ids.insert(known.begin(), known.end());
  ids.insert(taken.begin(), taken.end());
}

}  // namespace

TokenizerFile read_tokenizer_file(std::string_view text) {
  TokenizerFile file;
  try {
    file.document = parse_json(text, kMaxDepth);
  } catch (const JsonFault& fault) {
    throw TokenizerFault(fault.what());
  }
  expect_keys(file.document, "the file",
              {"truncation", "padding", "post_processor", "decoder", "version", "added_tokens", "normalizer",
               "pre_tokenizer", "model"});
  const Json* version = file.document.find("version");
  expect(version == nullptr || is_text(*version, "1.0"), "its version is not 1.0");
  check_normalizer(member(file.document, "normalizer"));
  check_pre_tokenizer(member(file.document, "pre_tokenizer"));
  const Vocabulary vocabulary = check_model(member(file.document, "model"));
  Json none;
  none.kind = Json::Kind::array;
  const Json* added = file.document.find("added_tokens");
  check_added(added == nullptr ? none : *added, vocabulary, file.ids);
  return file;
}

}  // namespace alterbute
