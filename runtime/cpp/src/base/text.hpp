// Text as Python and the tokenizers library see it: UTF-8, character classes, normal forms, and Python's formats of
// values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace alterbute::text {

// UTF-8 to code points; empty when the bytes are not valid UTF-8 (overlong forms and surrogates are not).
std::optional<std::u32string> decode(std::string_view bytes);
std::string encode(std::u32string_view points);

// Character classes of the tokenizers library's regular expressions: \p{L}, \p{N}, \s.
bool is_letter(char32_t point);
bool is_number(char32_t point);
bool is_space(char32_t point);

// The tokenizers library's normalisers.
std::u32string to_nfc(std::u32string_view points);
std::u32string to_lower(std::u32string_view points);

// Python's str: `\w`, `strip()`, `lower()` and `repr()`.
bool is_python_word(char32_t point);
std::u32string_view python_strip(std::u32string_view points);
std::u32string python_lower(std::u32string_view points);
std::string python_repr(std::string_view bytes);
std::string python_repr(double value);
std::string python_repr(std::int64_t value);
std::string python_repr(const std::vector<std::string>& values);
std::string python_repr(const std::vector<std::int64_t>& values);
std::string python_repr(const std::vector<double>& values);

// Python's ascii(): as repr(), with everything beyond ASCII escaped.
std::string python_ascii(std::string_view bytes);
// The first characters; of bytes that are no UTF-8, the first bytes.
std::string first_points(std::string_view bytes, std::size_t count);

// Whether a text holds no control character and none that hides or reorders others.
bool is_printable(std::u32string_view points);
// What may be shown on a terminal or in a log: characters that are not printable, and bytes that are no UTF-8, escaped;
// line breaks and tabs become spaces.
std::string printable_line(std::string_view bytes);

// printf's %g.
std::string general(double value);

std::string join(const std::vector<std::string>& parts, std::string_view between);

}  // namespace alterbute::text
