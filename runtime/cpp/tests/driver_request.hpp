// Requests and answers of the driver: a line of JSON, and blobs.
#pragma once

#include <charconv>
#include <optional>
#include <string>
#include <vector>

#include "alterbute/alterbute.hpp"
#include "bundle/json.hpp"

namespace driver {

using alterbute::Json;
using Blobs = std::vector<std::string>;

inline Json make(std::string text) {
  Json value;
  value.kind = Json::Kind::string;
  value.text = std::move(text);
  return value;
}
inline Json make(double number) {
  Json value;
  value.kind = Json::Kind::real;
  value.number = number;
  return value;
}
inline Json make(std::int64_t number) {
  Json value;
  value.kind = Json::Kind::integer;
  value.text = std::to_string(number);
  return value;
}
template <typename Item>
inline Json make(const std::vector<Item>& items) {
  Json value;
  value.kind = Json::Kind::array;
  for (const Item& item : items) value.items.push_back(make(item));
  return value;
}

inline std::int64_t whole(const Json& value) {
  std::int64_t number = 0;
  std::from_chars(value.text.data(), value.text.data() + value.text.size(), number);
  return number;
}

struct Answer {
  Json line;
  Blobs blobs;

  Answer() { line.kind = Json::Kind::object; }
  template <typename Value>
  void add(const char* name, Value value) {
    line.fields.emplace_back(name, make(std::move(value)));
  }
};

class Request {
 public:
  Request(Json line, Blobs blobs) : line_(std::move(line)), blobs_(std::move(blobs)) {}

  const Json* find(const char* name) const {
    const Json* value = line_.find(name);
    return value == nullptr || value->kind == Json::Kind::null ? nullptr : value;
  }
  std::string text(const char* name) const {
    const Json* value = find(name);
    return value == nullptr ? "" : value->text;
  }
  std::int64_t integer(const char* name) const { return find(name) == nullptr ? 0 : whole(*find(name)); }
  std::optional<double> number(const char* name) const {
    const Json* value = find(name);
    return value == nullptr ? std::nullopt : std::optional<double>(value->number);
  }
  const std::string& blob(std::size_t at) const { return blobs_.at(at); }
  // A picture, [blob, width, height, channels, bits, profile's blob]; the last may be left out, or the last two.
  std::optional<alterbute::ImageView> image(const char* name) const {
    const Json* value = find(name);
    if (value == nullptr) return std::nullopt;
    std::vector<int> given;
    for (const Json& item : value->items) given.push_back(static_cast<int>(whole(item)));
    const auto blob_at = [&](std::size_t at) -> const std::string& {
      return blob(static_cast<std::size_t>(given[at]));
    };
    alterbute::ImageView view{reinterpret_cast<const std::uint8_t*>(blob_at(0).data()), given[1], given[2], given[3],
                              0};
    if (given.size() > 4) view.bits = given[4];
    if (given.size() > 5) view.profile = blob_at(5).data(), view.profile_size = blob_at(5).size();
    return view;
  }

 private:
  Json line_;
  Blobs blobs_;
};

}  // namespace driver
