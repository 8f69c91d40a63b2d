#include "bundle/typed_json.hpp"

#include <algorithm>
#include <charconv>

#include "base/text.hpp"

namespace alterbute::typed {
namespace {

std::string show(const Json& value) {
  const std::string line = dump_json(value);
  return line.size() <= 40 ? line : line.substr(0, 37) + "...";
}

}  // namespace

void type_fault(const Json& value, const std::string& key, const char* expected) {
  throw KeyFault{key, show(value), expected};
}

std::string join(const std::string& key, const std::string& name) { return key.empty() ? name : key + "." + name; }

Record::Record(const Json& value, std::string key, std::initializer_list<const char*> names,
               std::initializer_list<const char*> optional)
    : value_(value), key_(std::move(key)) {
  expect_object(value, key_);
  for (const char* name : names) {
    if (value.find(name) == nullptr) throw KeyFault{path(name), "missing", "it to be there"};
  }
  std::vector<std::string> known(names.begin(), names.end());
  known.insert(known.end(), optional.begin(), optional.end());
  std::sort(known.begin(), known.end());
  for (const auto& [name, item] : value.fields) {
    if (!std::binary_search(known.begin(), known.end(), name)) {
      throw KeyFault{join(key_, name), "an unknown key", "only " + text::join(known, ", ")};
    }
  }
}

const Json& Record::at(const char* name) const { return *value_.find(name); }

void expect_object(const Json& value, const std::string& key) {
  if (value.kind != Json::Kind::object) type_fault(value, key, "an object");
}

std::int64_t integer(const Json& value, const std::string& key) {
  if (value.kind != Json::Kind::integer) type_fault(value, key, "an integer");
  std::int64_t number = 0;
  const auto parsed = std::from_chars(value.text.data(), value.text.data() + value.text.size(), number);
  // Beyond 64 bits nothing here is a size: Python's reader accepts it and fails later.
  if (parsed.ec != std::errc()) type_fault(value, key, "an integer");
  return number;
}

double number(const Json& value, const std::string& key) {
  if (value.kind != Json::Kind::integer && value.kind != Json::Kind::real) type_fault(value, key, "a number");
  return value.number;
}

bool boolean(const Json& value, const std::string& key) {
  if (value.kind != Json::Kind::boolean) type_fault(value, key, "true or false");
  return value.flag;
}

std::string string(const Json& value, const std::string& key) {
  if (value.kind != Json::Kind::string) type_fault(value, key, "a string");
  return value.text;
}

std::string choice(const Json& value, const std::string& key, std::initializer_list<const char*> choices) {
  if (value.kind == Json::Kind::string && std::find(choices.begin(), choices.end(), value.text) != choices.end())
    return value.text;
  std::vector<std::string> shown;
  for (const char* name : choices) shown.push_back(text::python_repr(name));
  throw KeyFault{key, show(value), text::join(shown, " or ")};
}

}  // namespace alterbute::typed
