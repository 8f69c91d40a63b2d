// PNG files for the examples: 8 bits per channel, pixels as stored, no colour management.
#pragma once

#include <alterbute/alterbute.hpp>
#include <string>

namespace example {

// Throws alterbute::InputError: no PNG, damaged, more than 8 bits per channel, or over the library's own limits.
alterbute::Image decode_png(const std::string& bytes, const std::string& param);
std::string encode_png(const alterbute::Image& image);

// Throw alterbute::InputError when the file cannot be read or written.
std::string read_file(const std::string& path, const std::string& param);
void write_file(const std::string& path, const std::string& bytes);

}  // namespace example
