#include "edit_handler.hpp"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>

#include "png_file.hpp"

namespace example {
namespace {

using Form = std::map<std::string, std::string, std::less<>>;

alterbute::InputError form_error(const std::string& seen) {
  return {seen, "multipart/form-data with photo, mask and prompt",
          "send a form, as `curl -F photo=@photo.png -F mask=@mask.png -F 'prompt=color: red'` does", "body",
          "form_malformed"};
}

// What stands between two marks, or nothing.
std::optional<std::string_view> between(std::string_view text, std::string_view before, std::string_view after) {
  const std::size_t start = text.find(before);
  if (start == std::string_view::npos) return std::nullopt;
  text.remove_prefix(start + before.size());
  const std::size_t end = after.empty() ? text.size() : text.find(after);
  if (end == std::string_view::npos) return std::nullopt;
  return text.substr(0, end);
}

Form parse_form(std::string_view content_type, std::string_view body) {
  auto boundary = between(content_type, "boundary=", "");
  if (content_type.substr(0, 19) != "multipart/form-data" || !boundary)
    throw form_error("the request's body is no form");
  if (const std::size_t end = boundary->find(';'); end != std::string_view::npos) boundary = boundary->substr(0, end);
  if (boundary->size() >= 2 && boundary->front() == '"') boundary = boundary->substr(1, boundary->size() - 2);
  const std::string mark = "--" + std::string(*boundary);
  Form form;
  std::size_t at = body.find(mark);
  while (at != std::string_view::npos) {
    at += mark.size();
    if (body.substr(at, 2) == "--") return form;
    const std::size_t end = body.find("\r\n" + mark, at);
    const std::size_t head_end = body.find("\r\n\r\n", at);
    if (end == std::string_view::npos || head_end == std::string_view::npos || head_end > end) break;
    const auto name = between(body.substr(at, head_end - at), " name=\"", "\"");
    if (!name) break;
    const std::size_t start = head_end + 4;
    form[std::string(*name)] = std::string(body.substr(start, end > start ? end - start : 0));
    at = end + 2;
  }
  throw form_error("the form is cut or malformed");
}

const std::string& field(const Form& form, const std::string& name) {
  const auto found = form.find(name);
  if (found == form.end())
    throw alterbute::InputError("the form has no " + name, "photo, mask and prompt", "send it", name,
                                name + "_missing");
  return found->second;
}

template <typename Number>
std::optional<Number> number(const Form& form, const char* name) {
  const auto found = form.find(name);
  if (found == form.end()) return std::nullopt;
  Number value{};
  const char* end = found->second.data() + found->second.size();
  if (const auto parsed = std::from_chars(found->second.data(), end, value);
      parsed.ec != std::errc() || parsed.ptr != end || found->second.empty()) {
    throw alterbute::InputError(std::string(name) + " is no number", "a number", "pass a number", name,
                                std::string(name) + "_type");
  }
  return value;
}

std::string quoted(const std::string& text) {
  std::string json = "\"";
  for (const char letter : text) {
    char escape[8];
    if (letter == '"' || letter == '\\') json += '\\';
    if (static_cast<unsigned char>(letter) < 0x20) {
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(letter));
      json += escape;
    } else {
      json += letter;
    }
  }
  return json + "\"";
}

Response error_response(int status, const std::string& message, const std::string& param = "",
                        const std::string& code = "") {
  return {status, "application/json",
          "{\"error\": {\"message\": " + quoted(message) + ", \"param\": " + quoted(param) +
              ", \"code\": " + quoted(code) + "}}\n"};
}

Response edit(const alterbute::Editor& editor, const Form& form) {
  alterbute::Request request;
  request.prompt = field(form, "prompt");
  request.seed = number<std::int64_t>(form, "seed");
  request.steps = number<int>(form, "steps");
  request.guidance = number<double>(form, "guidance");
  if (form.count("solver") != 0) request.solver = field(form, "solver");
  if (form.count("negative_prompt") != 0) request.negative_prompt = field(form, "negative_prompt");
  const Picture photo = decode_png(field(form, "photo"), "photo"), mask = decode_png(field(form, "mask"), "mask");
  std::optional<alterbute::Reference> reference;
  Picture picture;
  if (form.count("reference") != 0) {
    picture = decode_png(field(form, "reference"), "reference");
    reference = alterbute::Reference{picture.view(), std::nullopt};
  }
  const alterbute::Result result = editor.edit(photo.view(), mask.view(), request, {}, reference);
  return {200, "image/png", encode_png(result.image, photo.profile)};
}

}  // namespace

Response handle_edit(const alterbute::Editor& editor, std::string_view content_type, std::string_view body) {
  try {
    return edit(editor, parse_form(content_type, body));
  } catch (const alterbute::InputError& fault) {
    return error_response(400, fault.what(), fault.param(), fault.code());
  } catch (const std::exception& fault) {
    // What is wrong with the bundle or the engine is for the log, not for the caller.
    std::fprintf(stderr, "edit failed: %s\n", fault.what());
    return error_response(500, "the edit failed");
  }
}

}  // namespace example
