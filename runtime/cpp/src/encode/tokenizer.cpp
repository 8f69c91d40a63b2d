#include "encode/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <queue>

#include "alterbute/errors.hpp"
#include "bundle/json.hpp"
#include "base/text.hpp"

namespace alterbute {
namespace {

constexpr std::size_t kMaxPromptBytes = 4096;
constexpr const char* kPattern = R"('s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";
constexpr std::array<std::u32string_view, 7> kContractions = {U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"};
constexpr std::int64_t kNone = -1;

[[noreturn]] void refuse(const std::string& why) {
  throw BundleError("the bundle's tokenizer cannot be read (" + why + ")", "a tokenizer.json of the tokenizers library",
                    kExportAgain);
}

const Json& member(const Json& value, const char* name) {
  static const Json kNull;
  const Json* found = value.find(name);
  return found == nullptr ? kNull : *found;
}

bool is_text(const Json& value, std::string_view text) {
  return value.kind == Json::Kind::string && value.text == text;
}
bool is_true(const Json& value) { return value.kind == Json::Kind::boolean && value.flag; }

// Absent, null, false or "": the setting changes nothing.
void expect_off(const Json& value, const char* name) {
  const Json& setting = member(value, name);
  const bool is_off = setting.kind == Json::Kind::null || (setting.kind == Json::Kind::boolean && !setting.flag) ||
                      is_text(setting, "");
  if (!is_off) refuse(std::string(name) + " is " + dump_json(setting) + ", which no CLIP tokenizer has");
}

std::uint32_t read_id(const Json& value, const std::string& name) {
  if (value.kind != Json::Kind::integer || !(value.number >= 0 && value.number < 4294967295.0))
    refuse("the id of " + name + " is no id");
  return static_cast<std::uint32_t>(value.number);
}

std::u32string read_text(const Json& value, const char* what) {
  if (value.kind != Json::Kind::string) refuse(std::string(what) + " is no text");
  return text::decode(value.text).value_or(U"");
}

void check_normalizer(const Json& normalizer) {
  const auto& steps = member(normalizer, "normalizers").items;
  const bool is_clip = is_text(member(normalizer, "type"), "Sequence") && steps.size() == 3 &&
                       is_text(member(steps[0], "type"), "NFC") && is_text(member(steps[1], "type"), "Replace") &&
                       is_text(member(member(steps[1], "pattern"), "Regex"), "\\s+") &&
                       is_text(member(steps[1], "content"), " ") && is_text(member(steps[2], "type"), "Lowercase");
  if (!is_clip) refuse("the normalizer is not CLIP's: NFC, white space to one space, lower case");
}

std::uint64_t pair_key(std::uint32_t left, std::uint32_t right) { return std::uint64_t{left} << 32U | right; }

// GPT-2's printable stand-in of every byte, as UTF-8.
std::array<std::string, 256> byte_symbols() {
  std::array<std::string, 256> symbols;
  char32_t spare = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool is_shown = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    symbols[byte] = text::encode(std::u32string(1, is_shown ? byte : spare++));
  }
  return symbols;
}

std::u32string collapse_spaces(std::u32string_view points) {
  std::u32string collapsed;
  bool is_after_space = false;
  for (const char32_t point : points) {
    const bool is_space = text::is_space(point);
    if (!is_space) collapsed += point;
    if (is_space && !is_after_space) collapsed += U' ';
    is_after_space = is_space;
  }
  return collapsed;
}

bool starts_with(std::u32string_view points, std::u32string_view start) {
  return points.substr(0, start.size()) == start;
}

template <typename Matches>
std::size_t run_length(std::u32string_view points, Matches matches) {
  return static_cast<std::size_t>(std::find_if_not(points.begin(), points.end(), matches) - points.begin());
}

bool is_symbol(char32_t point) { return !text::is_space(point) && !text::is_letter(point) && !text::is_number(point); }

}  // namespace

// The symbols of one word, joined pair by pair: the lowest rank first, and of equal ranks the leftmost.
class Tokenizer::Word {
 public:
  explicit Word(const std::unordered_map<std::uint64_t, Merge>& merges) : merges_(merges) {}

  void add(std::uint32_t id) {
    const int index = static_cast<int>(symbols_.size());
    symbols_.push_back({id, index - 1, -1, true});
    if (index > 0) symbols_[static_cast<std::size_t>(index) - 1].next = index;
  }

  void merge(std::vector<std::int64_t>& ids) {
    for (int at = 0; at + 1 < static_cast<int>(symbols_.size()); ++at) propose(at);
    while (!queue_.empty()) {
      const Proposal best = queue_.top();
      queue_.pop();
      Symbol& left = symbols_[static_cast<std::size_t>(best.at)];
      if (!left.is_alive || left.next < 0) continue;
      Symbol& right = symbols_[static_cast<std::size_t>(left.next)];
      const auto known = merges_.find(pair_key(left.id, right.id));
      if (known == merges_.end() || known->second.id != best.id) continue;  // one of the two was joined meanwhile
      left.id = best.id;
      right.is_alive = false;
      left.next = right.next;
      if (left.next >= 0) symbols_[static_cast<std::size_t>(left.next)].previous = best.at;
      if (left.previous >= 0) propose(left.previous);
      propose(best.at);
    }
    for (const Symbol& symbol : symbols_) {
      if (symbol.is_alive) ids.push_back(symbol.id);
    }
  }

 private:
  struct Symbol {
    std::uint32_t id;
    int previous, next;
    bool is_alive;
  };
  struct Proposal {
    std::uint32_t rank;
    int at;
    std::uint32_t id;
    bool operator<(const Proposal& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
  };

  void propose(int at) {
    const Symbol& left = symbols_[static_cast<std::size_t>(at)];
    if (left.next < 0) return;
    const auto known = merges_.find(pair_key(left.id, symbols_[static_cast<std::size_t>(left.next)].id));
    if (known != merges_.end()) queue_.push({known->second.rank, at, known->second.id});
  }

  const std::unordered_map<std::uint64_t, Merge>& merges_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Proposal> queue_;
};

Tokenizer::Tokenizer(std::string_view tokenizer_json, const TextRules& rules) : rules_(rules) {
  Json document;
  try {
    document = parse_json(tokenizer_json);
  } catch (const JsonFault& fault) {
    refuse(fault.what());
  }
  check_normalizer(member(document, "normalizer"));
  read_pre_tokenizer(document);
  read_model(document);
  read_added(document);
}

void Tokenizer::read_pre_tokenizer(const Json& document) {
  const Json& sequence = member(document, "pre_tokenizer");
  const auto& steps = member(sequence, "pretokenizers").items;
  const bool is_sequence = is_text(member(sequence, "type"), "Sequence") && steps.size() == 2 &&
                           is_text(member(steps[0], "type"), "Split") &&
                           is_text(member(steps[0], "behavior"), "Removed") && is_true(member(steps[0], "invert")) &&
                           is_text(member(steps[1], "type"), "ByteLevel") &&
                           !is_true(member(steps[1], "add_prefix_space"));
  if (!is_sequence) refuse("the pre-tokenizer is not CLIP's: Split, then ByteLevel");
  const Json& use_regex = member(steps[1], "use_regex");
  splits_literals_ = use_regex.kind == Json::Kind::null || is_true(use_regex);
  const std::string& pattern = member(member(steps[0], "pattern"), "Regex").text;
  if (pattern == std::string(R"(<\|startoftext\|>|<\|endoftext\|>|)") + kPattern) {
    literals_ = {U"<|startoftext|>", U"<|endoftext|>"};
  } else if (pattern != kPattern) {
    refuse("the pre-tokenizer splits at " + text::python_repr(pattern));
  }
}

void Tokenizer::read_model(const Json& document) {
  const Json& model = member(document, "model");
  const Json& vocabulary = member(model, "vocab");
  const Json& merges = member(model, "merges");
  if (!is_text(member(model, "type"), "BPE") || vocabulary.kind != Json::Kind::object ||
      merges.kind != Json::Kind::array) {
    refuse("the model is no BPE with vocab and merges");
  }
  for (const char* name : {"dropout", "continuing_subword_prefix", "fuse_unk", "byte_fallback", "ignore_merges"})
    expect_off(model, name);
  std::unordered_map<std::string_view, std::uint32_t> ids;
  ids.reserve(vocabulary.fields.size());
  for (const auto& [name, id] : vocabulary.fields) ids[name] = read_id(id, name);
  const auto id_of = [&](const std::string& token) {
    const auto found = ids.find(token);
    if (found == ids.end()) refuse("a merge needs the token " + text::python_repr(token));
    return found->second;
  };
  merges_.reserve(merges.items.size());
  for (std::size_t rank = 0; rank < merges.items.size(); ++rank) {
    const Json& merge = merges.items[rank];
    std::string left, right;
    if (merge.items.size() == 2) {
      left = merge.items[0].text;
      right = merge.items[1].text;
    } else if (const std::size_t space = merge.text.find(' '); space != std::string::npos) {
      left = merge.text.substr(0, space);
      right = merge.text.substr(space + 1);
    }
    if (left.empty() || right.empty()) refuse("merge " + std::to_string(rank) + " is no pair");
    merges_[pair_key(id_of(left), id_of(right))] = {static_cast<std::uint32_t>(rank), id_of(left + right)};
  }
  const auto unknown = ids.find(member(model, "unk_token").text);
  const std::int64_t unknown_id = unknown == ids.end() ? kNone : std::int64_t{unknown->second};
  const std::string& suffix = member(model, "end_of_word_suffix").text;
  for (const std::string& symbol : byte_symbols()) {
    const auto inside = ids.find(symbol);
    byte_ids_.push_back(inside == ids.end() ? unknown_id : std::int64_t{inside->second});
    const std::string end = symbol + suffix;
    const auto last = ids.find(end);
    last_byte_ids_.push_back(last == ids.end() ? unknown_id : std::int64_t{last->second});
  }
}

void Tokenizer::read_added(const Json& document) {
  for (const Json& token : member(document, "added_tokens").items) {
    // `<|endoftext|>` typed by a user is text, not the end of it: special tokens are never looked for.
    if (is_true(member(token, "special"))) continue;
    for (const char* name : {"single_word", "lstrip", "rstrip"}) expect_off(token, name);
    const std::u32string content = read_text(member(token, "content"), "an added token");
    const std::int64_t id = read_id(member(token, "id"), text::encode(content));
    if (content.empty()) continue;
    if (is_true(member(token, "normalized"))) {
      normal_.push_back({text::to_lower(collapse_spaces(text::to_nfc(content))), id});
    } else {
      raw_.push_back({content, id});
    }
  }
}

std::vector<std::int64_t> Tokenizer::encode(std::string_view prompt) const {
  const std::u32string points = check_text(prompt);
  std::vector<std::int64_t> ids = {rules_.start_id};
  encode_text(points, ids);
  const auto count = static_cast<std::int64_t>(ids.size()) - 1;
  if (count + 2 > rules_.tokens) {
    throw InputError("the prompt is " + std::to_string(count) + " tokens long",
                     "at most " + std::to_string(rules_.tokens - 2) + ", this bundle's window",
                     "shorten it; it is never cut in silence", "prompt", "prompt_too_long");
  }
  ids.push_back(rules_.end_id);
  ids.resize(static_cast<std::size_t>(rules_.tokens), rules_.pad_id);
  return ids;
}

// Splits the text at added tokens, leftmost and then longest first; `rest` gets what is between them.
template <typename Tokens, typename Rest>
static void split_at(std::u32string_view points, const Tokens& tokens, std::vector<std::int64_t>& ids, Rest rest) {
  std::size_t start = 0;
  for (std::size_t at = 0; at < points.size() && !tokens.empty();) {
    const typename Tokens::value_type* best = nullptr;
    for (const auto& token : tokens) {
      if (starts_with(points.substr(at), token.content) &&
          (best == nullptr || token.content.size() > best->content.size()))
        best = &token;
    }
    if (best == nullptr) {
      ++at;
      continue;
    }
    if (at > start) rest(points.substr(start, at - start));
    ids.push_back(best->id);
    at += best->content.size();
    start = at;
  }
  if (start < points.size()) rest(points.substr(start));
}

void Tokenizer::encode_text(std::u32string_view points, std::vector<std::int64_t>& ids) const {
  split_at(points, raw_, ids, [&](std::u32string_view part) {
    const std::u32string normal = text::to_lower(collapse_spaces(text::to_nfc(part)));
    split_at(normal, normal_, ids, [&](std::u32string_view rest) { encode_normal(rest, ids); });
  });
}

void Tokenizer::encode_normal(std::u32string_view points, std::vector<std::int64_t>& ids) const {
  while (!points.empty()) {
    std::size_t length = 0;
    for (const auto& literal : literals_) {
      if (length == 0 && starts_with(points, literal)) length = literal.size();
    }
    const bool is_literal = length > 0;
    for (const auto& contraction : kContractions) {
      if (length == 0 && starts_with(points, contraction)) length = contraction.size();
    }
    if (length == 0) length = run_length(points, text::is_letter);
    if (length == 0 && text::is_number(points[0])) length = 1;
    if (length == 0) length = run_length(points, is_symbol);
    if (length == 0) {  // white space
      points.remove_prefix(1);
      continue;
    }
    const std::u32string_view piece = points.substr(0, length);
    if (is_literal && splits_literals_) {
      encode_piece(piece, ids);
    } else {
      encode_word(text::encode(piece), ids);
    }
    points.remove_prefix(length);
  }
}

// ByteLevel splits once more, which only the literals, made of letters and symbols, can tell.
void Tokenizer::encode_piece(std::u32string_view piece, std::vector<std::int64_t>& ids) const {
  while (!piece.empty()) {
    const std::size_t letters = run_length(piece, text::is_letter);
    const std::size_t length = letters > 0 ? letters : run_length(piece, is_symbol);
    encode_word(text::encode(piece.substr(0, length)), ids);
    piece.remove_prefix(length);
  }
}

void Tokenizer::encode_word(std::string_view bytes, std::vector<std::int64_t>& ids) const {
  Word word(merges_);
  for (std::size_t k = 0; k < bytes.size(); ++k) {
    const std::int64_t id = (k + 1 == bytes.size() ? last_byte_ids_ : byte_ids_)[static_cast<unsigned char>(bytes[k])];
    if (id != kNone) word.add(static_cast<std::uint32_t>(id));
  }
  word.merge(ids);
}

std::u32string check_text(std::string_view prompt) {
  // Length first: it bounds the work on what follows.
  auto points = prompt.size() > kMaxPromptBytes ? std::optional<std::u32string>(std::in_place) : text::decode(prompt);
  if (!points) {
    throw InputError("the prompt holds bytes that are no UTF-8", "valid Unicode", "type it again", "prompt",
                     "prompt_unicode");
  }
  if (prompt.size() > kMaxPromptBytes) {
    throw InputError("the prompt is " + std::to_string(prompt.size()) + " bytes long",
                     "at most " + std::to_string(kMaxPromptBytes), "shorten it", "prompt", "prompt_too_long");
  }
  return *points;
}

}  // namespace alterbute
