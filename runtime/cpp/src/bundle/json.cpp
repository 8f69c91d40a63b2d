#include "bundle/json.hpp"

#include <array>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/text.hpp"

namespace alterbute {
namespace {

constexpr std::size_t kMaxNumber = 64;
// The largest integer that a parser with doubles reads exactly, 2^53 - 1.
constexpr std::int64_t kMaxInteger = 9'007'199'254'740'991;

constexpr std::string_view kMark = "\xEF\xBB\xBF";

// Takes nlohmann's events one by one, so that order, repeated keys, depth and the digits of numbers are seen.
class Builder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  // The limit bounds the recursion of every function that visits a value, too.
  explicit Builder(std::size_t max_depth) : max_depth_(max_depth) {}

  Json take() { return std::move(root_); }

  bool null() override { return put({}); }
  bool boolean(bool flag) override {
    Json value;
    value.kind = Json::Kind::boolean;
    value.flag = flag;
    return put(std::move(value));
  }
  bool number_integer(number_integer_t number) override { return put_integer(number); }
  bool number_unsigned(number_unsigned_t number) override {
    if (number > static_cast<number_unsigned_t>(kMaxInteger)) refuse_integer(std::to_string(number));
    return put_integer(static_cast<std::int64_t>(number));
  }
  bool number_float(number_float_t number, const string_t& digits) override {
    if (digits.find_first_not_of("-0123456789") == std::string::npos) refuse_integer(digits);  // beyond 64 bits
    const std::string shown = digits.substr(0, 24);
    if (digits.size() > kMaxNumber)
      throw JsonFault("the number " + shown + "... has " + std::to_string(digits.size()) + " characters");
    const bool is_zero = digits.substr(0, digits.find_first_of("eE")).find_first_of("123456789") == std::string::npos;
    if (!std::isfinite(number) || (number == 0 && !is_zero)) throw JsonFault("the number " + shown + " is out of range");
    Json value;
    value.kind = Json::Kind::real;
    value.number = number;
    return put(std::move(value));
  }
  bool string(string_t& text) override {
    Json value;
    value.kind = Json::Kind::string;
    value.text = std::move(text);
    return put(std::move(value));
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json::Kind::object); }
  bool key(string_t& name) override {
    open_.back()->fields.emplace_back(std::move(name), Json{});
    return true;
  }
  bool end_object() override {
    std::unordered_set<std::string_view> names;
    names.reserve(open_.back()->fields.size());
    for (const auto& [name, value] : open_.back()->fields) {
      if (!names.insert(name).second) throw JsonFault("a key is given twice");
    }
    open_.pop_back();
    return true;
  }
  bool start_array(std::size_t) override { return open(Json::Kind::array); }
  bool end_array() override {
    open_.pop_back();
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& fault) override {
    const std::string line = fault.what();
    const std::size_t name_end = line.find("] ");  // "[json.exception.parse_error.101] "
    throw JsonFault(name_end == std::string::npos ? line : line.substr(name_end + 2));
  }

 private:
  Json* place() {
    if (open_.empty()) return &root_;
    if (open_.back()->kind == Json::Kind::array) return &open_.back()->items.emplace_back();
    return &open_.back()->fields.back().second;
  }
  bool put(Json value) {
    *place() = std::move(value);
    return true;
  }
  bool put_integer(std::int64_t number) {
    if (number > kMaxInteger || number < -kMaxInteger) refuse_integer(std::to_string(number));
    Json value;
    value.kind = Json::Kind::integer;
    value.text = std::to_string(number);
    value.number = static_cast<double>(number);
    return put(std::move(value));
  }
  [[noreturn]] static void refuse_integer(const std::string& digits) {
    throw JsonFault("the integer " + digits.substr(0, 24) + " is beyond 2^53 - 1");
  }
  bool open(Json::Kind kind) {
    if (open_.size() == max_depth_) throw JsonFault("the nesting is too deep");
    Json* value = place();
    value->kind = kind;
    open_.push_back(value);
    return true;
  }

  std::size_t max_depth_;
  Json root_;
  // Only the innermost container grows, so the pointers to those around it stay good.
  std::vector<Json*> open_;
};

std::string dump_text(std::string_view bytes) {
  std::string shown = "\"";
  std::array<char, 8> escape{};
  const auto append_unit = [&](unsigned unit) {
    std::snprintf(escape.data(), escape.size(), "\\u%04x", unit & 0xFFFFU);
    shown += escape.data();
  };
  for (const char32_t point : text::decode(bytes).value_or(U"?")) {
    if (point == U'"' || point == U'\\') {
      shown += '\\';
      shown += static_cast<char>(point);
    } else if (const auto at = std::u32string_view(U"\b\f\n\r\t").find(point); at != std::u32string_view::npos) {
      shown += '\\';
      shown += "bfnrt"[at];
    } else if (point >= 0x20 && point < 0x7F) {
      shown += static_cast<char>(point);
    } else if (point < 0x10000) {
      append_unit(static_cast<unsigned>(point));
    } else {
      append_unit(0xD800U + static_cast<unsigned>((point - 0x10000) >> 10));
      append_unit(0xDC00U + static_cast<unsigned>((point - 0x10000) & 0x3FFU));
    }
  }
  return shown + '"';
}

}  // namespace

const Json* Json::find(std::string_view name) const {
  for (const auto& [key, value] : fields) {
    if (key == name) return &value;
  }
  return nullptr;
}

Json parse_json(std::string_view text, std::size_t max_depth) {
  // nlohmann's reader skips a mark and ends at a NUL byte.
  if (text.substr(0, kMark.size()) == kMark) throw JsonFault("it starts with a byte order mark");
  if (text.find('\0') != std::string_view::npos) throw JsonFault("it holds a NUL byte");
  Builder builder(max_depth);
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

std::string dump_json(const Json& value) {
  std::vector<std::string> parts;
  switch (value.kind) {
    case Json::Kind::null:
      return "null";
    case Json::Kind::boolean:
      return value.flag ? "true" : "false";
    case Json::Kind::integer:
      return value.text;
    case Json::Kind::real:
      return text::python_repr(value.number);
    case Json::Kind::string:
      return dump_text(value.text);
    case Json::Kind::array:
      for (const Json& item : value.items) parts.push_back(dump_json(item));
      return "[" + text::join(parts, ", ") + "]";
    case Json::Kind::object:
      for (const auto& [name, item] : value.fields) parts.push_back(dump_text(name) + ": " + dump_json(item));
      return "{" + text::join(parts, ", ") + "}";
  }
  return "";
}

}  // namespace alterbute
