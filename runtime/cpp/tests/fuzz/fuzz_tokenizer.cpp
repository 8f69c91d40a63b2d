// Any bytes are a tokenizer or are refused with a BundleError; any prompt is encoded or refused with an InputError. The
// input is a prompt, a 0 byte, and a tokenizer.json; a prompt alone is put to the last tokenizer that was one.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "alterbute/errors.hpp"
#include "encode/tokenizer.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static std::unique_ptr<alterbute::Tokenizer> known;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t end = input.find('\0');
  const std::string_view prompt = input.substr(0, end),
                         json = end == std::string_view::npos ? input : input.substr(end + 1);
  alterbute::TextRules rules;
  rules.tokens = 77;
  try {
    known = std::make_unique<alterbute::Tokenizer>(json, rules);
  } catch (const alterbute::BundleError&) {
  }
  try {
    if (known != nullptr && known->encode(prompt).size() != 77) __builtin_trap();
  } catch (const alterbute::InputError&) {
  }
  const alterbute::Named<std::vector<std::string>> attributes = {{"color", {"red", "blue"}}};
  alterbute::vocabulary_warning(prompt, attributes);
  return 0;
}
