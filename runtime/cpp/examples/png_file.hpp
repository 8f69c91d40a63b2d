// PNG files for the examples: pixels as stored, of 8 or 16 bits, and their ICC profile. Other colour chunks are not
// read.
#pragma once

#include <alterbute/alterbute.hpp>
#include <string>

namespace example {

struct Picture {
  alterbute::Image image;
  std::string profile;  // empty: none

  alterbute::ImageView view() const {
    alterbute::ImageView view = image.view();
    if (!profile.empty()) view.profile = profile.data(), view.profile_size = profile.size();
    return view;
  }
};

// Throws alterbute::InputError: no PNG, damaged, or over the library's own limits.
Picture decode_png(const std::string& bytes, const std::string& param);
std::string encode_png(const alterbute::Image& image, const std::string& profile);

// Throw alterbute::InputError when the file cannot be read or written.
std::string read_file(const std::string& path, const std::string& param);
void write_file(const std::string& path, const std::string& bytes);

}  // namespace example
