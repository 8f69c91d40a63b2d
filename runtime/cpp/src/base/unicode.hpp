// Tables of character properties; see scripts/make_unicode_tables.py.
#pragma once

namespace alterbute::unicode {

bool is_printable(char32_t point);
bool is_python_space(char32_t point);
bool is_python_cased(char32_t point);  // and not ignorable
bool is_python_case_ignorable(char32_t point);

}  // namespace alterbute::unicode
