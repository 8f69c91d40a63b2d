// Edits a PNG:  edit_png BUNDLE PHOTO.png MASK.png "color: red" OUT.png [--seed N] [--steps N] [--solver NAME]
// [--guidance G] [--reference R.png]
#include <alterbute/alterbute.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "png_file.hpp"

namespace {

constexpr const char* kUsage =
    "usage: edit_png BUNDLE PHOTO.png MASK.png PROMPT OUT.png [--seed N] [--steps N] [--solver NAME] [--guidance G] "
    "[--reference R.png]\n"
    "ONNX Runtime is taken from $ALTERBUTE_ONNXRUNTIME, or as the system finds it.\n";

template <typename Number, typename Parse>
Number parse(const std::string& option, const char* text, Parse parse_text) {
  char* end = nullptr;
  const auto value = parse_text(text, &end);
  if (end == text || *end != '\0') {
    throw alterbute::InputError(option + " is '" + text + "'", "a number", "give a number after " + option,
                                option.substr(2), option.substr(2) + "_type");
  }
  return static_cast<Number>(value);
}

int edit(int argc, char** argv) {
  alterbute::Request request;
  request.prompt = argv[4];
  example::Picture reference;
  for (int at = 6; at + 1 < argc; at += 2) {
    const std::string option = argv[at];
    const char* value = argv[at + 1];
    const auto whole = [](const char* text, char** end) { return std::strtoll(text, end, 10); };
    if (option == "--seed") {
      request.seed = parse<std::int64_t>(option, value, whole);
    } else if (option == "--steps") {
      request.steps = parse<int>(option, value, whole);
    } else if (option == "--solver") {
      request.solver = value;
    } else if (option == "--guidance") {
      request.guidance = parse<double>(option, value, std::strtod);
    } else if (option == "--reference") {
      reference = example::decode_png(example::read_file(value, "reference"), "reference");
    } else {
      std::fprintf(stderr, "unknown option %s\n%s", argv[at], kUsage);
      return 2;
    }
  }
  const example::Picture photo = example::decode_png(example::read_file(argv[2], "photo"), "photo");
  const example::Picture mask = example::decode_png(example::read_file(argv[3], "mask"), "mask");
  const alterbute::Editor editor(argv[1]);
  alterbute::Callbacks callbacks;
  callbacks.progress = [](const alterbute::Progress& done) {
    std::fprintf(stderr, "\rstep %d of %d%s", done.step, done.steps, done.step == done.steps ? "\n" : "");
  };
  std::optional<alterbute::Reference> given;
  if (!reference.image.pixels.empty()) given = alterbute::Reference{reference.view(), std::nullopt};
  const alterbute::Result result = editor.edit(photo.view(), mask.view(), request, callbacks, given);
  for (const std::string& warning : result.warnings) std::fprintf(stderr, "warning: %s\n", warning.c_str());
  example::write_file(argv[5], example::encode_png(result.image, photo.profile));
  const alterbute::Timings& spent = result.timings;
  std::printf("%s: seed %lld, window %.0f ms, encode %.0f ms, steps %.0f ms, decode %.0f ms, paste %.0f ms\n", argv[5],
              static_cast<long long>(result.seed), spent.window * 1e3, spent.encode * 1e3, spent.steps * 1e3,
              spent.decode * 1e3, spent.paste * 1e3);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6 || argc % 2 != 0) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  try {
    return edit(argc, argv);
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "error: %s\n", fault.what());
    return 1;
  }
}
