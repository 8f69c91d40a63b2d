#include "base/unicode.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "base/text.hpp"

namespace alterbute {
namespace {

struct Range {
  char32_t first, last;
};
struct LowerRun {
  char32_t first, last, stride;
  std::int32_t distance;
};
struct Mapping {
  char32_t first;
  char32_t to[4];
};
struct Pair {
  char32_t first, second, whole;
};
struct Combining {
  char32_t first, last;
  int level;
};

#include "base/unicode_tables.inc"

// The last entry that starts at or before the point; null when there is none.
template <typename Entry, std::size_t n>
const Entry* entry_before(const Entry (&table)[n], char32_t point) {
  const Entry* after =
      std::upper_bound(table, table + n, point, [](char32_t value, const Entry& entry) { return value < entry.first; });
  return after == table ? nullptr : after - 1;
}

template <typename Entry, std::size_t n>
const Entry* entry_around(const Entry (&table)[n], char32_t point) {
  const Entry* entry = entry_before(table, point);
  return entry != nullptr && point <= entry->last ? entry : nullptr;
}

template <std::size_t n>
const Mapping* mapping_of(const Mapping (&table)[n], char32_t point) {
  const Mapping* entry = entry_before(table, point);
  return entry != nullptr && entry->first == point ? entry : nullptr;
}

void append(std::u32string& points, const Mapping& mapping) {
  for (const char32_t point : mapping.to) {
    if (point != 0) points += point;
  }
}

int combining_class(char32_t point) {
  const Combining* entry = point < 0x300 ? nullptr : entry_around(kCombining, point);
  return entry == nullptr ? 0 : entry->level;
}

// Hangul syllables are composed by arithmetic (Unicode standard, section 3.12).
constexpr char32_t kSyllables = 0xAC00, kLead = 0x1100, kVowel = 0x1161, kTail = 0x11A7;
constexpr char32_t kNumLead = 19, kNumVowel = 21, kNumTail = 28, kNumSyllables = kNumLead * kNumVowel * kNumTail;

void append_decomposed(std::u32string& points, char32_t point) {
  if (point >= kSyllables && point < kSyllables + kNumSyllables) {
    const char32_t index = point - kSyllables;
    points += kLead + index / (kNumVowel * kNumTail);
    points += kVowel + index / kNumTail % kNumVowel;
    if (index % kNumTail != 0) points += kTail + index % kNumTail;
  } else if (const Mapping* mapping = point < 0xC0 ? nullptr : mapping_of(kDecomposed, point)) {
    append(points, *mapping);
  } else {
    points += point;
  }
}

// The character that two make together, or 0.
char32_t composed(char32_t first, char32_t second) {
  if (first >= kLead && first < kLead + kNumLead && second >= kVowel && second < kVowel + kNumVowel) {
    return kSyllables + ((first - kLead) * kNumVowel + (second - kVowel)) * kNumTail;
  }
  const bool is_open_syllable =
      first >= kSyllables && first < kSyllables + kNumSyllables && (first - kSyllables) % kNumTail == 0;
  if (is_open_syllable && second > kTail && second < kTail + kNumTail) return first + (second - kTail);
  const Pair* end = std::end(kComposed);
  const Pair* pair = std::lower_bound(
      std::begin(kComposed), end, Pair{first, second, 0},
      [](const Pair& a, const Pair& b) { return a.first != b.first ? a.first < b.first : a.second < b.second; });
  return pair != end && pair->first == first && pair->second == second ? pair->whole : 0;
}

// Marks between two starters in the order of their classes.
void order_marks(std::u32string& points) {
  for (std::size_t at = 0; at < points.size();) {
    std::size_t end = at;
    while (end < points.size() && combining_class(points[end]) != 0) ++end;
    std::stable_sort(points.begin() + static_cast<std::ptrdiff_t>(at),
                     points.begin() + static_cast<std::ptrdiff_t>(end),
                     [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
    at = end + 1;
  }
}

}  // namespace

namespace unicode {

bool is_printable(char32_t point) { return entry_around(kUnprintable, point) == nullptr; }
bool is_python_space(char32_t point) { return entry_around(kPythonSpaces, point) != nullptr; }
bool is_python_cased(char32_t point) { return entry_around(kPythonCased, point) != nullptr; }
bool is_python_case_ignorable(char32_t point) { return entry_around(kPythonCaseIgnorable, point) != nullptr; }

}  // namespace unicode

namespace text {

bool is_letter(char32_t point) { return entry_around(kLetters, point) != nullptr; }
bool is_number(char32_t point) { return entry_around(kNumbers, point) != nullptr; }
bool is_space(char32_t point) { return entry_around(kSpaces, point) != nullptr; }
bool is_python_word(char32_t point) { return entry_around(kPythonWord, point) != nullptr; }

std::u32string to_nfc(std::u32string_view points) {
  std::u32string marks;
  for (const char32_t point : points) append_decomposed(marks, point);
  order_marks(marks);
  std::u32string whole;
  std::size_t starter = std::u32string::npos;
  int last_class = -1;  // of the characters kept since the starter; -1 when there are none
  for (const char32_t point : marks) {
    const int level = combining_class(point);
    const bool is_reachable = starter != std::u32string::npos && last_class < level;
    if (const char32_t joined = is_reachable ? composed(whole[starter], point) : 0) {
      whole[starter] = joined;
      continue;
    }
    if (level == 0) {
      starter = whole.size();
      last_class = -1;
    } else {
      last_class = level;
    }
    whole += point;
  }
  return whole;
}

std::u32string to_lower(std::u32string_view points) {
  std::u32string lower;
  lower.reserve(points.size());
  for (const char32_t point : points) {
    const LowerRun* run = entry_around(kLower, point);
    if (run != nullptr && (point - run->first) % run->stride == 0) {
      lower += static_cast<char32_t>(static_cast<std::int32_t>(point) + run->distance);
    } else if (const Mapping* mapping = mapping_of(kLowerLong, point)) {
      append(lower, *mapping);
    } else {
      lower += point;
    }
  }
  return lower;
}

}  // namespace text
}  // namespace alterbute
