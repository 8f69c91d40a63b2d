// The words that a bundle was trained on, and those of a prompt that it was not.
#include <algorithm>
#include <optional>

#include "alterbute/errors.hpp"
#include "base/text.hpp"
#include "encode/tokenizer.hpp"

namespace alterbute {
namespace {

using Attributes = Named<std::vector<std::string>>;

// One part of a prompt: its name, or nothing, and its value.
struct Part {
  std::string name;
  std::u32string value;
};

std::u32string_view next_part(std::u32string_view& rest, char32_t separator) {
  const std::size_t end = std::min(rest.find(separator), rest.size());
  const std::u32string_view part = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return part;
}

bool has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool is_known(const Attributes& attributes, const std::string& word) {
  return std::any_of(attributes.begin(), attributes.end(),
                     [&](const auto& attribute) { return attribute.first == word || has(attribute.second, word); });
}

// A part without a name: every word of it on its own.
void add_unknown_words(std::u32string_view value, const Attributes& attributes, std::vector<std::string>& unknown) {
  std::u32string word;
  for (std::size_t at = 0; at <= value.size(); ++at) {
    if (at < value.size() && text::is_python_word(value[at])) {
      word += value[at];
    } else if (!word.empty()) {
      if (!is_known(attributes, text::encode(word))) unknown.push_back(text::encode(word));
      word.clear();
    }
  }
}

// `color: red; material: metal` as (color, red), (material, metal).
std::vector<Part> parse_attributes(std::string_view prompt) {
  std::vector<Part> parts;
  const std::u32string lower = text::python_lower(text::decode(prompt).value_or(U""));
  for (std::u32string_view rest = lower; !rest.empty();) {
    const std::u32string_view part = next_part(rest, U';');
    if (text::python_strip(part).empty()) continue;
    const std::size_t colon = part.rfind(U':');
    const bool has_name = colon != std::u32string_view::npos;
    parts.push_back({has_name ? text::encode(text::python_strip(part.substr(0, colon))) : "",
                     std::u32string(text::python_strip(has_name ? part.substr(colon + 1) : part))});
  }
  return parts;
}

// The prompt's attribute names and values that the bundle was not trained on, in the prompt's order.
std::vector<std::string> unknown_words(std::string_view prompt, const Attributes& attributes) {
  std::vector<std::string> unknown;
  for (const auto& [name, value] : parse_attributes(prompt)) {
    const std::vector<std::string>* values = find(attributes, name);
    if (name.empty()) {
      add_unknown_words(value, attributes, unknown);
    } else if (values == nullptr) {
      unknown.push_back(name);
    } else if (!has(*values, text::encode(value))) {
      unknown.push_back(text::encode(value));
    }
  }
  std::vector<std::string> once;
  for (const std::string& word : unknown) {
    if (!has(once, word)) once.push_back(word);
  }
  return once;
}

std::string show(const std::vector<std::string>& words) {
  std::vector<std::string> shown;
  for (const std::string& word : words) shown.push_back(text::python_repr(word));
  return text::join(shown, ", ");
}

std::string show_known(const Attributes& attributes) {
  std::vector<std::string> known;
  for (const auto& [name, values] : attributes) known.push_back(name + ": " + text::join(values, ", "));
  return text::join(known, "; ");
}

}  // namespace

std::set<std::string> named_attributes(std::string_view prompt, const std::optional<Attributes>& attributes) {
  std::set<std::string> names;
  for (const Part& part : parse_attributes(prompt)) {
    std::string name = part.name;
    if (name.empty() && attributes) {
      // A value that belongs to several attributes counts for the last one.
      for (const auto& [owner, values] : *attributes)
        if (has(values, text::encode(part.value))) name = owner;
    }
    names.insert(std::move(name));
  }
  return names;
}

std::string vocabulary_warning(std::string_view prompt, const std::optional<Attributes>& attributes) {
  if (!attributes) return "";
  const std::vector<std::string> unknown = unknown_words(prompt, *attributes);
  return unknown.empty() ? ""
                         : "this bundle was not trained on " + show(unknown) + "; its vocabulary is " +
                               show_known(*attributes);
}

void check_attributes(std::string_view prompt, const std::optional<Attributes>& attributes) {
  if (!attributes) return;
  std::vector<std::string> foreign;
  for (const auto& [name, value] : parse_attributes(prompt)) {
    if (!name.empty() && find(*attributes, name) == nullptr) foreign.push_back(name);
  }
  if (foreign.empty()) return;
  throw InputError("the prompt asks for " + show(foreign),
                   "what this bundle was trained on (" + show_known(*attributes) + ")",
                   "leave it out, or use a bundle that was trained on it", "prompt", "prompt_attribute_unknown");
}

}  // namespace alterbute
