// JSON values to C++ ones, strictly: a wrong, missing or unknown key is named in the fault, in the words of Python's
// reader.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "bundle/json.hpp"

namespace alterbute::typed {

// One key of a document is wrong: `key` is its dotted path, `seen` and `expected` say how.
struct KeyFault {
  std::string key, seen, expected;
};

std::string join(const std::string& key, const std::string& name);

// A JSON object that has all of `names`, may have those of `optional`, and nothing else.
class Record {
 public:
  Record(const Json& value, std::string key, std::initializer_list<const char*> names,
         std::initializer_list<const char*> optional = {});
  const Json& at(const char* name) const;
  // Null when an optional key is missing.
  const Json* find(const char* name) const { return value_.find(name); }
  std::string path(const char* name) const { return join(key_, name); }

 private:
  const Json& value_;
  std::string key_;
};

[[noreturn]] void type_fault(const Json& value, const std::string& key, const char* expected);

void expect_object(const Json& value, const std::string& key);
std::int64_t integer(const Json& value, const std::string& key);
double number(const Json& value, const std::string& key);
bool boolean(const Json& value, const std::string& key);
std::string string(const Json& value, const std::string& key);
std::string choice(const Json& value, const std::string& key, std::initializer_list<const char*> choices);

// A JSON list, each item read by `read(item, key)`.
template <typename Read>
auto list(const Json& value, const std::string& key, Read read) {
  using Item = decltype(read(value, key));
  std::vector<Item> items;
  if (value.kind != Json::Kind::array) type_fault(value, key, "a list");
  for (std::size_t k = 0; k < value.items.size(); ++k)
    items.push_back(read(value.items[k], key + "[" + std::to_string(k) + "]"));
  return items;
}

// A JSON object with any keys, each value read by `read(value, key)`.
template <typename Read>
auto map(const Json& value, const std::string& key, Read read) {
  using Item = decltype(read(value, key));
  std::vector<std::pair<std::string, Item>> items;
  expect_object(value, key);
  for (const auto& [name, item] : value.fields) items.emplace_back(name, read(item, join(key, name)));
  return items;
}

}  // namespace alterbute::typed
