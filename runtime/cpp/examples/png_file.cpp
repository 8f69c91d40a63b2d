#include "png_file.hpp"

#include <png.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

namespace example {
namespace {

constexpr png_uint_32 kMaxSide = 16'384;
constexpr std::uint64_t kMaxPixels = 100'000'000;
constexpr std::streamoff kMaxFileBytes = 800 << 20;
constexpr png_alloc_size_t kMaxChunkBytes = 8U << 20;
constexpr int kMaxChunks = 256;
// Deflate makes at most this many bytes of one: a small file cannot hold a large picture, whatever its header says.
constexpr std::uint64_t kMostPerByte = 1032;

struct Source {
  const std::string* bytes;
  std::size_t at;
};

// libpng's own way out is longjmp, which would step over destructors: an exception through C frames built for it is no
// better everywhere, so faults are kept in a buffer and the jump ends in a function without any object.
struct Fault {
  char line[200];
  bool has_doubtful_profile;
};

void on_error(png_structp png, png_const_charp line) {
  std::snprintf(static_cast<Fault*>(png_get_error_ptr(png))->line, sizeof(Fault::line), "%s", line);
  png_longjmp(png, 1);
}

// A chunk that no pixel depends on: its name, before a colon, starts with a small letter.
bool is_about_metadata(const char* line) {
  return std::strlen(line) > 5 && line[4] == ':' && line[0] >= 'a' && line[0] <= 'z' && std::strncmp(line, "tRNS", 4) != 0;
}

// libpng goes on where it can, with pixels that the file does not have: rows that are missing, a wrong checksum of the
// compressed data, more of it than the picture needs, a transparency that is dropped. Here all of that is an error.
// Bytes behind the end of that data, in its last chunk or in more of them, belong to no pixel: all readers pass over them.
void on_warning(png_structp png, png_const_charp line) {
  if (std::strcmp(line, "IDAT: Extra compressed data") == 0) return;
  if (!is_about_metadata(line)) on_error(png, line);
  if (std::strncmp(line, "iCCP", 4) == 0) static_cast<Fault*>(png_get_error_ptr(png))->has_doubtful_profile = true;
}
void on_writing_warning(png_structp, png_const_charp) {}

// Animations have other pictures than the one that is read.
int on_other_chunk(png_structp png, png_unknown_chunkp chunk) {
  if (std::memcmp(chunk->name, "acTL", 4) == 0) png_error(png, "it is an animation");
  return 0;
}

void read_bytes(png_structp png, png_bytep to, png_size_t size) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (source->bytes->size() - source->at < size) png_error(png, "the file is truncated");
  std::memcpy(to, source->bytes->data() + source->at, size);
  source->at += size;
}
void write_bytes(png_structp png, png_bytep from, png_size_t size) {
  static_cast<std::string*>(png_get_io_ptr(png))->append(reinterpret_cast<const char*>(from), size);
}
void flush_bytes(png_structp) {}

struct Header {
  png_uint_32 width, height;
  int bits, channels;
  png_bytep profile;  // libpng's memory, until its structures are freed; null: none
  png_uint_32 profile_size;
  int num_colors;  // of a palette, which is put in place of its indices once the rows are read; 0: none
  png_colorp colors;
  png_bytep opacities;  // of the first `num_opacities` colours
  int num_opacities;
};

// Whether this machine keeps the low byte of a number first; PNG keeps the high one first.
bool has_low_byte_first() {
  const std::uint16_t one = 1;
  std::uint8_t first = 0;
  std::memcpy(&first, &one, 1);
  return first == 1;
}

// Both return false when libpng gave up.
bool read_header(png_structp png, png_infop info, Header* header) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_read_info(png, info);
  int colour = 0;
  png_get_IHDR(png, info, &header->width, &header->height, &header->bits, &colour, nullptr, nullptr, nullptr);
  if (colour == PNG_COLOR_TYPE_PALETTE) {
    // libpng takes an index beyond the palette for black: rows are read as indices, which are checked here.
    png_get_PLTE(png, info, &header->colors, &header->num_colors);
    png_get_tRNS(png, info, &header->opacities, &header->num_opacities, nullptr);
    if (header->num_colors < 1) png_error(png, "it has no palette");
    png_set_packing(png);
  } else {
    png_set_expand(png);  // small grey levels and tRNS
    png_set_gray_to_rgb(png);
  }
  if (header->bits == 16 && has_low_byte_first()) png_set_swap(png);
  png_charp name = nullptr;
  int compression = 0;
  png_get_iCCP(png, info, &name, &compression, &header->profile, &header->profile_size);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  header->channels = png_get_channels(png, info);
  return true;
}
bool read_rows(png_structp png, png_infop info, png_bytep* rows) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_read_image(png, rows);
  png_read_end(png, info);
  return true;
}

// Pixels of a palette's indices; false where an index is beyond it.
bool look_up(const Header& header, const std::vector<std::uint8_t>& indices, std::vector<std::uint8_t>& pixels) {
  const bool has_alpha = header.num_opacities > 0;
  pixels.reserve(indices.size() * (has_alpha ? 4 : 3));
  for (const std::uint8_t index : indices) {
    if (index >= header.num_colors) return false;
    const png_color& color = header.colors[index];
    pixels.insert(pixels.end(), {color.red, color.green, color.blue});
    if (has_alpha) pixels.push_back(index < header.num_opacities ? header.opacities[index] : 255);
  }
  return true;
}

bool write_picture(png_structp png, png_infop info, const alterbute::Image* image, const std::string* profile,
                   std::string* bytes) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_set_write_fn(png, bytes, write_bytes, flush_bytes);
  const int colour = image->channels == 1   ? PNG_COLOR_TYPE_GRAY
                     : image->channels == 3 ? PNG_COLOR_TYPE_RGB
                                            : PNG_COLOR_TYPE_RGBA;
  png_set_IHDR(png, info, static_cast<png_uint_32>(image->width), static_cast<png_uint_32>(image->height), image->bits,
               colour, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (!profile->empty()) {
    png_set_iCCP(png, info, "ICC profile", PNG_COMPRESSION_TYPE_BASE,
                 reinterpret_cast<png_const_bytep>(profile->data()), static_cast<png_uint_32>(profile->size()));
  }
  png_write_info(png, info);
  if (image->bits == 16 && has_low_byte_first()) png_set_swap(png);
  const std::size_t stride = image->pixels.size() / static_cast<std::size_t>(image->height);
  for (int y = 0; y < image->height; ++y)
    png_write_row(png, image->pixels.data() + static_cast<std::size_t>(y) * stride);
  png_write_end(png, info);
  return true;
}

alterbute::InputError damage(const std::string& param, const std::string& why) {
  return {"the " + param + " is damaged (" + why + ")", "a complete PNG file", "copy or save the file again", param,
          param + "_undecodable"};
}

}  // namespace

Picture decode_png(const std::string& bytes, const std::string& param) {
  if (bytes.size() < 8 || png_sig_cmp(reinterpret_cast<png_const_bytep>(bytes.data()), 0, 8) != 0) {
    throw alterbute::InputError("the " + param + " is no PNG", "a PNG file", "save it as a PNG", param,
                                param + "_not_an_image");
  }
  Fault fault{};
  Source source{&bytes, 0};
  struct Reader {
    png_structp png;
    png_infop info;
    ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
  } reader{png_create_read_struct(PNG_LIBPNG_VER_STRING, &fault, on_error, on_warning), nullptr};
  if (reader.png == nullptr || (reader.info = png_create_info_struct(reader.png)) == nullptr) throw std::bad_alloc();
  png_set_read_fn(reader.png, &source, read_bytes);
  png_set_user_limits(reader.png, kMaxSide, kMaxSide);
  png_set_chunk_cache_max(reader.png, kMaxChunks);
  png_set_chunk_malloc_max(reader.png, kMaxChunkBytes);
  png_set_crc_action(reader.png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  png_set_read_user_chunk_fn(reader.png, nullptr, on_other_chunk);
  Header header{};
  if (!read_header(reader.png, reader.info, &header)) throw damage(param, fault.line);
  if (fault.has_doubtful_profile && header.profile == nullptr) throw damage(param, "its colour profile is malformed");
  const std::uint64_t num_pixels = std::uint64_t{header.width} * header.height;
  if (num_pixels > kMaxPixels) throw damage(param, "over 100 megapixels");
  // A pixel is a bit at least.
  if (num_pixels / 8 > kMostPerByte * bytes.size()) throw damage(param, "it is too small for its number of pixels");
  const int bits = header.bits == 16 ? 16 : 8;
  const std::size_t stride = std::size_t{header.width} * static_cast<std::size_t>(header.channels * bits / 8);
  alterbute::Image image{std::vector<std::uint8_t>(stride * header.height), static_cast<int>(header.width),
                         static_cast<int>(header.height), header.channels, bits};
  std::vector<png_bytep> rows(header.height);
  for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = image.pixels.data() + y * stride;
  if (!read_rows(reader.png, reader.info, rows.data())) throw damage(param, fault.line);
  if (header.num_colors > 0) {
    std::vector<std::uint8_t> pixels;
    if (!look_up(header, image.pixels, pixels)) throw damage(param, "a pixel has a colour that its palette lacks");
    image.pixels = std::move(pixels);
    image.channels = header.num_opacities > 0 ? 4 : 3;
  }
  std::string profile;
  if (header.profile != nullptr) profile.assign(reinterpret_cast<const char*>(header.profile), header.profile_size);
  return {std::move(image), std::move(profile)};
}

std::string encode_png(const alterbute::Image& image, const std::string& profile) {
  Fault fault{};
  struct Writer {
    png_structp png;
    png_infop info;
    ~Writer() { png_destroy_write_struct(&png, &info); }
  } writer{png_create_write_struct(PNG_LIBPNG_VER_STRING, &fault, on_error, on_writing_warning), nullptr};
  if (writer.png == nullptr || (writer.info = png_create_info_struct(writer.png)) == nullptr) throw std::bad_alloc();
  std::string bytes;
  if (!write_picture(writer.png, writer.info, &image, &profile, &bytes)) throw damage("result", fault.line);
  return bytes;
}

std::string read_file(const std::string& path, const std::string& param) {
  const auto refuse = [&](const std::string& why) {
    return alterbute::InputError("the " + param + " '" + path + "' cannot be read (" + why + ")", "a PNG file",
                                 "check the path", param, param + "_unreadable");
  };
  // Opening a FIFO would wait for its writer.
  std::error_code fault;
  if (!std::filesystem::is_regular_file(path, fault)) throw refuse(fault ? fault.message() : "it is no plain file");
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file ? static_cast<std::streamoff>(file.tellg()) : -1;
  if (size < 0) throw refuse(std::strerror(errno));
  if (size > kMaxFileBytes) throw refuse("over 800 MiB");
  std::string bytes(static_cast<std::size_t>(size), '\0');
  file.seekg(0);
  file.read(bytes.data(), size);
  bytes.resize(static_cast<std::size_t>(file.gcount()));
  return bytes;
}

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) {
    throw alterbute::InputError("the output '" + path + "' cannot be written: " + std::strerror(errno),
                                "a file path in a writable folder", "choose another path", "output",
                                "output_unwritable");
  }
}

}  // namespace example
