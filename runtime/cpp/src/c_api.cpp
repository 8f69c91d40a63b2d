// alterbute.h over alterbute.hpp: no exception leaves a function.
#include "alterbute/alterbute.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "alterbute/alterbute.hpp"

struct alterbute_editor {
  alterbute::Editor editor;
};
struct alterbute_subject {
  alterbute::Subject subject;
};
struct alterbute_results {
  std::vector<alterbute::Result> results;
  std::vector<std::string> warnings;
  std::vector<std::optional<std::string>> errors;
};
struct alterbute_error {
  alterbute_error_kind kind = ALTERBUTE_OTHER_ERROR;
  std::string message, seen, expected, fix, param, code;
  bool is_fatal = false;
};

namespace {

using alterbute::ImageView;

void describe(alterbute_error& error, alterbute_error_kind kind, const alterbute::Error& fault) {
  error.kind = kind;
  error.message = fault.what();
  error.seen = fault.seen();
  error.expected = fault.expected();
  error.fix = fault.fix();
}

// The current exception as an error object; null when there is no memory for one, and the caller sees only that the
// call failed.
void report(alterbute_error** error) noexcept {
  if (error == nullptr) return;
  *error = new (std::nothrow) alterbute_error;
  if (*error == nullptr) return;
  try {
    try {
      throw;
    } catch (const alterbute::InputError& fault) {
      describe(**error, ALTERBUTE_INPUT_ERROR, fault);
      (*error)->param = fault.param();
      (*error)->code = fault.code();
    } catch (const alterbute::BundleError& fault) {
      describe(**error, ALTERBUTE_BUNDLE_ERROR, fault);
    } catch (const alterbute::DeviceError& fault) {
      describe(**error, ALTERBUTE_ENGINE_ERROR, fault);
      (*error)->is_fatal = fault.is_fatal();
    } catch (const alterbute::EngineError& fault) {
      describe(**error, ALTERBUTE_ENGINE_ERROR, fault);
    } catch (const alterbute::Cancelled& fault) {
      describe(**error, ALTERBUTE_CANCELLED, fault);
    } catch (const std::exception& fault) {
      (*error)->message = fault.what();
    } catch (...) {
      (*error)->message = "an unknown fault";
    }
  } catch (...) {
    // No memory for the message: the error has its kind only.
    (*error)->kind = ALTERBUTE_OTHER_ERROR;
  }
}

// The call's result, or what it returns when it failed.
template <typename Call>
auto guarded(alterbute_error** error, Call call) noexcept -> decltype(call()) {
  if (error != nullptr) *error = nullptr;
  try {
    return call();
  } catch (...) {
    report(error);
    return {};
  }
}

// A caller's structure, which may be of an older and shorter version, over defaults.
template <typename Struct>
Struct complete(const Struct* given, void (*init)(Struct*)) {
  Struct whole;
  init(&whole);
  if (given != nullptr) std::memcpy(&whole, given, std::min(given->size, sizeof whole));
  return whole;
}

std::string text_of(const char* text) { return text == nullptr ? "" : text; }

// A list that is there and empty, or whose paths are missing, is no wish for a bundle that is not checked.
std::vector<std::string> keys_of(const alterbute_options& options) {
  if ((options.trust_keys == nullptr) != (options.num_trust_keys == 0)) {
    throw alterbute::InputError("the list of trusted keys is empty", "a key, or no list for no check of the signature",
                                "name a key, or leave trust_keys NULL and num_trust_keys 0", "trust_keys", "key_unusable");
  }
  std::vector<std::string> keys;
  for (size_t k = 0; k < options.num_trust_keys; ++k) keys.push_back(text_of(options.trust_keys[k]));
  return keys;
}

ImageView view_of(const alterbute_image* image, int32_t bits, const void* profile = nullptr, size_t profile_size = 0) {
  if (image == nullptr) return {};
  return {image->pixels, image->width, image->height, image->channels, image->stride, bits, profile, profile_size};
}

alterbute_image image_of(const alterbute::Image& image) {
  return {image.pixels.data(), image.width, image.height, image.channels, 0};
}

std::optional<double> number_of(double value) {
  return std::isnan(value) ? std::nullopt : std::optional<double>(value);
}

alterbute::Request request_of(const alterbute_request& from) {
  alterbute::Request request;
  request.prompt = text_of(from.prompt);
  request.negative_prompt = text_of(from.negative_prompt);
  if (from.solver != nullptr) request.solver = from.solver;
  if (from.seed != -1) request.seed = from.seed;
  if (from.steps != 0) request.steps = from.steps;
  if (from.reinject >= 0) request.reinject = from.reinject != 0;
  request.count = from.count;
  request.strength = number_of(from.strength);
  request.guidance = number_of(from.guidance);
  request.identity_guidance = number_of(from.identity_guidance);
  request.guidance_rescale = number_of(from.guidance_rescale);
  if (!std::isnan(from.guidance_start) || !std::isnan(from.guidance_stop)) {
    request.guidance_interval = {std::isnan(from.guidance_start) ? 0 : from.guidance_start,
                                 std::isnan(from.guidance_stop) ? 1 : from.guidance_stop};
  }
  if (!std::isnan(from.identity_scale)) request.identity_scale = from.identity_scale;
  request.detail = static_cast<alterbute::Detail>(from.detail);
  return request;
}

alterbute::Callbacks callbacks_of(const alterbute_callbacks* from) {
  alterbute::Callbacks callbacks;
  if (from == nullptr) return callbacks;
  const alterbute_callbacks held = *from;
  if (held.progress != nullptr) {
    callbacks.progress = [held](const alterbute::Progress& done) {
      held.progress(held.user, done.image, done.images, done.step, done.steps);
    };
  }
  if (held.cancel != nullptr) callbacks.cancel = [held] { return held.cancel(held.user) != 0; };
  return callbacks;
}

}  // namespace

extern "C" {

alterbute_error_kind alterbute_error_get_kind(const alterbute_error* error) { return error->kind; }
const char* alterbute_error_message(const alterbute_error* error) { return error->message.c_str(); }
const char* alterbute_error_seen(const alterbute_error* error) { return error->seen.c_str(); }
const char* alterbute_error_expected(const alterbute_error* error) { return error->expected.c_str(); }
const char* alterbute_error_fix(const alterbute_error* error) { return error->fix.c_str(); }
const char* alterbute_error_param(const alterbute_error* error) { return error->param.c_str(); }
const char* alterbute_error_code(const alterbute_error* error) { return error->code.c_str(); }
int alterbute_error_is_fatal(const alterbute_error* error) { return error->is_fatal ? 1 : 0; }
void alterbute_error_free(alterbute_error* error) { delete error; }

void alterbute_options_init(alterbute_options* options) {
  *options = {sizeof *options, nullptr, nullptr, 4, 0, nullptr, 0};
}

void alterbute_subject_options_init(alterbute_subject_options* options) {
  *options = {};
  options->size = sizeof *options;
  options->photo_bits = options->mask_bits = options->reference_bits = 8;
  options->reference_mask_bits = options->protect_bits = 8;
}

void alterbute_request_init(alterbute_request* request) {
  constexpr double kDefault = std::numeric_limits<double>::quiet_NaN();
  *request = {sizeof *request, nullptr,  nullptr,  nullptr,  -1,       0,        1,       -1,
              kDefault,        kDefault, kDefault, kDefault, kDefault, kDefault, kDefault, ALTERBUTE_DETAIL_AUTO};
}

alterbute_editor* alterbute_open(const char* bundle, const alterbute_options* options, alterbute_error** error) {
  return alterbute_open_on_stream(bundle, options, nullptr, error);
}

alterbute_editor* alterbute_open_on_stream(const char* bundle, const alterbute_options* options, void* cuda_stream,
                                           alterbute_error** error) {
  return guarded(error, [&] {
    const alterbute_options given = complete(options, alterbute_options_init);
    alterbute::EditorOptions chosen;
    chosen.onnxruntime = text_of(given.onnxruntime);
    if (given.device != nullptr) chosen.device = given.device;
    chosen.slots = given.slots;
    chosen.threads = given.threads;
    chosen.trust_keys = keys_of(given);
    chosen.cuda_stream = cuda_stream;
    return new alterbute_editor{alterbute::Editor(text_of(bundle), chosen)};
  });
}

void alterbute_editor_free(alterbute_editor* editor) { delete editor; }

int alterbute_load(const alterbute_editor* editor, alterbute_error** error) {
  return guarded(error, [&] {
    editor->editor.load();
    return 1;
  });
}

int alterbute_warm_up(const alterbute_editor* editor, alterbute_error** error) {
  return guarded(error, [&] {
    editor->editor.warm_up();
    return 1;
  });
}

int alterbute_verify(const char* bundle, const alterbute_options* options, alterbute_error** error) {
  return guarded(error, [&] {
    alterbute::verify_bundle(text_of(bundle), keys_of(complete(options, alterbute_options_init)));
    return 1;
  });
}

alterbute_subject* alterbute_prepare(const alterbute_editor* editor, const alterbute_image* photo,
                                     const alterbute_image* mask, const alterbute_subject_options* options,
                                     alterbute_error** error) {
  return guarded(error, [&] {
    const alterbute_subject_options given = complete(options, alterbute_subject_options_init);
    alterbute::MaskOptions how;
    how.polarity = static_cast<alterbute::Polarity>(given.polarity);
    how.kind = static_cast<alterbute::MaskKind>(given.kind);
    if (given.protect != nullptr) how.protect = view_of(given.protect, given.protect_bits);
    if (given.dilate != 0) how.dilate = given.dilate;
    how.rim = given.rim;
    how.value = text_of(given.mask_value);
    if (given.reference == nullptr && given.reference_mask != nullptr) {
      throw alterbute::InputError("there is a reference mask and no reference", "both", "give the reference",
                                  "reference", "reference_missing");
    }
    std::optional<alterbute::Reference> reference;
    if (given.reference != nullptr) {
      const ImageView picture =
          view_of(given.reference, given.reference_bits, given.reference_profile, given.reference_profile_size);
      reference = alterbute::Reference{picture, std::nullopt};
    }
    if (given.reference_mask != nullptr) reference->mask = view_of(given.reference_mask, given.reference_mask_bits);
    const ImageView own = view_of(photo, given.photo_bits, given.photo_profile, given.photo_profile_size);
    return new alterbute_subject{editor->editor.prepare(own, view_of(mask, given.mask_bits), reference, how,
                                                        static_cast<alterbute::Color>(given.color))};
  });
}

void alterbute_subject_free(alterbute_subject* subject) { delete subject; }

alterbute_results* alterbute_edit(const alterbute_subject* subject, const alterbute_request* requests,
                                  size_t num_requests, const alterbute_callbacks* callbacks, alterbute_error** error) {
  return guarded(error, [&] {
    std::vector<alterbute::Request> wanted;
    // The stride of the array is the size of the caller's version of the structure.
    const char* at = reinterpret_cast<const char*>(requests);
    for (size_t k = 0; k < num_requests; ++k) {
      const auto* request = reinterpret_cast<const alterbute_request*>(at);
      wanted.push_back(request_of(complete(request, alterbute_request_init)));
      at += request->size;
    }
    auto made = std::make_unique<alterbute_results>();
    try {
      made->results = subject->subject.edit_many(wanted, callbacks_of(callbacks));
      made->errors.resize(made->results.size());
    } catch (const alterbute::PartialEditError& partial) {
      for (const auto& result : partial.results()) made->results.push_back(result.value_or(alterbute::Result()));
      for (const auto& fault : partial.faults())
        made->errors.push_back(fault ? std::optional<std::string>(fault->what()) : std::nullopt);
    }
    for (const alterbute::Result& result : made->results) {
      std::string& lines = made->warnings.emplace_back();
      for (const std::string& warning : result.warnings) lines += warning + "\n";
    }
    return made.release();
  });
}

void alterbute_results_free(alterbute_results* results) { delete results; }
size_t alterbute_results_count(const alterbute_results* results) { return results->results.size(); }
alterbute_image alterbute_result_image(const alterbute_results* results, size_t at) {
  return image_of(results->results[at].image);
}
alterbute_image alterbute_result_alpha(const alterbute_results* results, size_t at) {
  return image_of(results->results[at].alpha);
}
int32_t alterbute_result_bits(const alterbute_results* results, size_t at) { return results->results[at].image.bits; }
int64_t alterbute_result_seed(const alterbute_results* results, size_t at) { return results->results[at].seed; }
const char* alterbute_result_warnings(const alterbute_results* results, size_t at) {
  return results->warnings[at].c_str();
}
const char* alterbute_result_error(const alterbute_results* results, size_t at) {
  return results->errors[at] ? results->errors[at]->c_str() : nullptr;
}

}  // extern "C"
