#include "encode/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <queue>

#include "alterbute/errors.hpp"
#include "bundle/json.hpp"
#include "encode/tokenizer_file.hpp"
#include "base/text.hpp"

namespace alterbute {
namespace {

constexpr std::size_t kMaxPromptBytes = 4096;
constexpr std::array<std::u32string_view, 7> kContractions = {U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"};
constexpr std::int64_t kNone = -1;

[[noreturn]] void refuse(const std::string& why) {
  throw BundleError("the bundle's tokenizer cannot be used (" + text::first_points(why, 200) + ")",
                    "a tokenizer.json of CLIP's kind", kExportAgain);
}

const Json& member(const Json& value, const char* name) {
  static const Json kNull;
  const Json* found = value.find(name);
  return found == nullptr ? kNull : *found;
}

bool is_true(const Json& value) { return value.kind == Json::Kind::boolean && value.flag; }

std::uint32_t id_of(const Json& value) { return static_cast<std::uint32_t>(value.number); }

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
  TokenizerFile file;
  try {
    file = read_tokenizer_file(tokenizer_json);
  } catch (const TokenizerFault& fault) {
    refuse(fault.what());
  }
  for (const auto& [name, id] : {std::pair{"start_id", rules.start_id}, std::pair{"end_id", rules.end_id},
                                 std::pair{"pad_id", rules.pad_id}}) {
    if (file.ids.count(id) == 0)
      refuse("it has no id " + std::to_string(id) + ", the manifest's text." + name);
  }
  const Json& steps = member(member(file.document, "pre_tokenizer"), "pretokenizers");
  if (member(member(steps.items[0], "pattern"), "Regex").text != kWordPattern)
    literals_ = {U"<|startoftext|>", U"<|endoftext|>"};
  const Json& use_regex = member(steps.items[1], "use_regex");
  splits_literals_ = use_regex.kind == Json::Kind::null || is_true(use_regex);
  read_model(member(file.document, "model"));
  read_added(member(file.document, "added_tokens"));
}

void Tokenizer::read_model(const Json& model) {
  const Json& merges = member(model, "merges");
  std::unordered_map<std::string_view, std::uint32_t> ids;
  ids.reserve(member(model, "vocab").fields.size());
  for (const auto& [name, id] : member(model, "vocab").fields) ids[name] = id_of(id);
  merges_.reserve(merges.items.size());
  for (std::size_t rank = 0; rank < merges.items.size(); ++rank) {
    const Json& merge = merges.items[rank];
    const bool is_pair = merge.kind == Json::Kind::array;
    const std::size_t space = is_pair ? 0 : merge.text.find(' ');
    const std::string left = is_pair ? merge.items[0].text : merge.text.substr(0, space);
    const std::string right = is_pair ? merge.items[1].text : merge.text.substr(space + 1);
    merges_[pair_key(ids.at(left), ids.at(right))] = {static_cast<std::uint32_t>(rank), ids.at(left + right)};
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

void Tokenizer::read_added(const Json& tokens) {
  for (const Json& token : tokens.items) {
    // `<|endoftext|>` typed by a user is text, not the end of it: special tokens are never looked for.
    if (is_true(member(token, "special"))) continue;
    const std::u32string content = text::decode(member(token, "content").text).value_or(U"");
    const std::int64_t id = id_of(member(token, "id"));
    if (!is_true(member(token, "normalized"))) {
      raw_.push_back({content, id});
      continue;
    }
    std::u32string normal = text::to_lower(collapse_spaces(text::to_nfc(content)));
    if (!normal.empty()) normal_.push_back({std::move(normal), id});
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
