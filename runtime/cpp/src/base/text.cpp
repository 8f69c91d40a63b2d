#include "base/text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/unicode.hpp"

namespace alterbute::text {
namespace {

// One character at `at`, which moves past it; nothing when the bytes there are no UTF-8.
std::optional<char32_t> next_point(std::string_view bytes, std::size_t& at) {
  const auto lead = static_cast<unsigned char>(bytes[at]);
  const std::size_t length = lead < 0x80                   ? 1
                             : lead >= 0xC2 && lead < 0xE0 ? 2
                             : lead >= 0xE0 && lead < 0xF0 ? 3
                             : lead >= 0xF0 && lead < 0xF5 ? 4
                                                           : 0;
  if (length == 0 || bytes.size() - at < length) return std::nullopt;
  char32_t point = length == 1 ? lead : lead & (0x7FU >> length);
  for (std::size_t k = 1; k < length; ++k) {
    const auto byte = static_cast<unsigned char>(bytes[at + k]);
    if ((byte & 0xC0U) != 0x80U) return std::nullopt;
    point = point << 6 | (byte & 0x3FU);
  }
  constexpr std::array<char32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  if (point < kLeast[length] || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) return std::nullopt;
  at += length;
  return point;
}

void append(std::string& bytes, char32_t point) {
  const auto tail = [&](unsigned shift) { bytes += static_cast<char>(0x80U | (point >> shift & 0x3FU)); };
  if (point < 0x80) {
    bytes += static_cast<char>(point);
  } else if (point < 0x800) {
    bytes += static_cast<char>(0xC0U | point >> 6);
    tail(0);
  } else if (point < 0x10000) {
    bytes += static_cast<char>(0xE0U | point >> 12);
    tail(6);
    tail(0);
  } else {
    bytes += static_cast<char>(0xF0U | point >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

void append_escape(std::string& bytes, char32_t point) {
  std::array<char, 12> escape{};
  const char* form = point < 0x100 ? "\\x%02x" : point < 0x10000 ? "\\u%04x" : "\\U%08x";
  std::snprintf(escape.data(), escape.size(), form, static_cast<unsigned>(point));
  bytes += escape.data();
}

// Characters that are never shown: controls, and those that hide, join or reorder others.
bool is_forbidden(char32_t point) {
  constexpr std::array<std::pair<char32_t, char32_t>, 14> kForbidden = {{{0x0000, 0x001F},
                                                                         {0x007F, 0x009F},
                                                                         {0x00AD, 0x00AD},
                                                                         {0x061C, 0x061C},
                                                                         {0x180E, 0x180E},
                                                                         {0x200B, 0x200F},
                                                                         {0x2028, 0x202E},
                                                                         {0x2060, 0x206F},
                                                                         {0xD800, 0xDFFF},
                                                                         {0xFEFF, 0xFEFF},
                                                                         {0xFFF9, 0xFFFB},
                                                                         {0xFFFE, 0xFFFF},
                                                                         {0xE0000, 0xE007F},
                                                                         {0x110000, 0xFFFFFFFF}}};
  return std::any_of(kForbidden.begin(), kForbidden.end(),
                     [&](const auto& range) { return range.first <= point && point <= range.second; });
}

// Line breaks and tabs.
bool is_break(char32_t point) {
  return (point >= 0x09 && point <= 0x0D) || point == 0x85 || point == 0x2028 || point == 0x2029;
}

template <typename Value>
std::string list_repr(const std::vector<Value>& values) {
  std::vector<std::string> shown;
  for (const Value& value : values) shown.push_back(python_repr(value));
  return "[" + join(shown, ", ") + "]";
}

// Whether the sigma there ends a word: a cased character before it and none after it, ignorable ones aside.
bool is_final(std::u32string_view points, std::size_t at) {
  std::size_t before = at, after = at + 1;
  while (before > 0 && unicode::is_python_case_ignorable(points[before - 1])) --before;
  while (after < points.size() && unicode::is_python_case_ignorable(points[after])) ++after;
  return before > 0 && unicode::is_python_cased(points[before - 1]) &&
         !(after < points.size() && unicode::is_python_cased(points[after]));
}

}  // namespace

std::optional<std::u32string> decode(std::string_view bytes) {
  std::u32string points;
  points.reserve(bytes.size());
  for (std::size_t at = 0; at < bytes.size();) {
    const auto point = next_point(bytes, at);
    if (!point) return std::nullopt;
    points += *point;
  }
  return points;
}

std::string encode(std::u32string_view points) {
  std::string bytes;
  for (const char32_t point : points) append(bytes, point);
  return bytes;
}

std::u32string_view python_strip(std::u32string_view points) {
  while (!points.empty() && unicode::is_python_space(points.front())) points.remove_prefix(1);
  while (!points.empty() && unicode::is_python_space(points.back())) points.remove_suffix(1);
  return points;
}

std::u32string python_lower(std::u32string_view points) {
  std::u32string lower;
  for (std::size_t at = 0; at < points.size(); ++at) {
    if (points[at] == U'\u03A3' && is_final(points, at)) {
      lower += U'\u03C2';
    } else {
      lower += to_lower(points.substr(at, 1));
    }
  }
  return lower;
}

std::string python_repr(std::string_view bytes) {
  const bool has_single = bytes.find('\'') != std::string_view::npos,
             has_double = bytes.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string shown(1, quote);
  for (std::size_t at = 0; at < bytes.size();) {
    auto point = next_point(bytes, at);
    if (!point) {
      // How Python shows a byte of a file name that is no UTF-8.
      point = 0xDC00U + static_cast<unsigned char>(bytes[at++]);
    }
    if (*point == U'\\' || *point == static_cast<char32_t>(quote)) {
      shown += '\\';
      shown += static_cast<char>(*point);
    } else if (*point == U'\n' || *point == U'\r' || *point == U'\t') {
      shown += *point == U'\n' ? "\\n" : *point == U'\r' ? "\\r" : "\\t";
    } else if (unicode::is_printable(*point)) {
      append(shown, *point);
    } else {
      append_escape(shown, *point);
    }
  }
  return shown + quote;
}

std::string python_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, 40> buffer{};
  const double size = std::fabs(value);
  const bool is_plain = size == 0 || (size >= 1e-4 && size < 1e16);
  const auto form = is_plain ? std::chars_format::fixed : std::chars_format::scientific;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, form);
  std::string shown(buffer.data(), end.ptr);
  if (is_plain && shown.find('.') == std::string::npos) shown += ".0";
  return shown;
}

std::string python_repr(std::int64_t value) { return std::to_string(value); }
std::string python_repr(const std::vector<std::string>& values) { return list_repr(values); }
std::string python_repr(const std::vector<std::int64_t>& values) { return list_repr(values); }
std::string python_repr(const std::vector<double>& values) { return list_repr(values); }

std::string python_ascii(std::string_view bytes) {
  std::string shown;
  for (const char32_t point : decode(python_repr(bytes)).value_or(U"")) {
    if (point < 0x80) {
      shown += static_cast<char>(point);
    } else {
      append_escape(shown, point);
    }
  }
  return shown;
}

std::string first_points(std::string_view bytes, std::size_t count) {
  const auto points = decode(bytes);
  return points ? encode(std::u32string_view(*points).substr(0, count)) : std::string(bytes.substr(0, count));
}

bool is_printable(std::u32string_view points) { return std::none_of(points.begin(), points.end(), is_forbidden); }

std::string printable_line(std::string_view bytes) {
  std::string line;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto point = next_point(bytes, at);
    if (!point) {
      append_escape(line, static_cast<unsigned char>(bytes[at++]));
    } else if (is_break(*point)) {
      line += ' ';
    } else if (is_forbidden(*point)) {
      append_escape(line, *point);
    } else {
      append(line, *point);
    }
  }
  return line;
}

std::string general(double value) {
  std::array<char, 40> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%g", value);
  return buffer.data();
}

std::string join(const std::vector<std::string>& parts, std::string_view between) {
  std::string joined;
  for (std::size_t k = 0; k < parts.size(); ++k) {
    if (k > 0) joined += between;
    joined += parts[k];
  }
  return joined;
}

}  // namespace alterbute::text
