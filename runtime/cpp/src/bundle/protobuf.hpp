// The fields of a protobuf message, read one by one where they lie.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string_view>

namespace alterbute::protobuf {

struct Malformed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A field: a number, or bytes. Fixed numbers of 4 and 8 bytes are passed over: `is_fixed`.
struct Field {
  std::uint32_t number = 0;
  bool has_bytes = false, is_fixed = false;
  std::uint64_t value = 0;
  std::string_view bytes;
};

// Every form that two readers could understand in two ways is refused: tags and lengths with more bytes than they need,
// groups, and what reaches beyond the message. Throws Malformed.
class Fields {
 public:
  explicit Fields(std::string_view message) : rest_(message) {}

  // False at the end of the message.
  bool next(Field& field) {
    if (rest_.empty()) return false;
    const std::uint64_t tag = varint(kShort, true);
    field = {};
    field.number = static_cast<std::uint32_t>(tag >> 3U);
    if (tag > 0xFFFFFFFFU || field.number == 0) throw Malformed("a field has no number");
    switch (tag & 7U) {
      case 0:
        field.value = varint(kLong, false);
        break;
      case 1:
        take(8);
        field.is_fixed = true;
        break;
      case 2:
        field.has_bytes = true;
        field.bytes = take(varint(kShort, true));
        break;
      case 5:
        take(4);
        field.is_fixed = true;
        break;
      default:
        throw Malformed("a field is of an unknown kind");
    }
    return true;
  }

  // The next number of a packed list.
  std::uint64_t packed() { return varint(kLong, false); }
  bool is_at_end() const { return rest_.empty(); }

 private:
  static constexpr std::size_t kShort = 5, kLong = 10;

  std::uint64_t varint(std::size_t most, bool is_minimal) {
    std::uint64_t value = 0;
    for (std::size_t k = 0; k < most; ++k) {
      if (rest_.empty()) throw Malformed("it is cut");
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= std::uint64_t{byte & 0x7FU} << (7 * k);
      if ((byte & 0x80U) != 0) continue;
      if (is_minimal && k > 0 && byte == 0) throw Malformed("a number has more bytes than it needs");
      return value;
    }
    throw Malformed("a number is too long");
  }

  std::string_view take(std::uint64_t size) {
    if (size > rest_.size()) throw Malformed("it is cut");
    const std::string_view taken = rest_.substr(0, static_cast<std::size_t>(size));
    rest_.remove_prefix(taken.size());
    return taken;
  }

  std::string_view rest_;
};

}  // namespace alterbute::protobuf
