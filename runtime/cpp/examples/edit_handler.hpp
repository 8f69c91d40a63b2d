// An HTTP handler around an editor, for any server: a request's body and content type in, a response out. It keeps
// nothing, so any number of the server's threads may call it at once.
#pragma once

#include <alterbute/alterbute.hpp>
#include <string>
#include <string_view>

namespace example {

struct Response {
  int status;
  std::string content_type, body;
};

// multipart/form-data with the PNG files `photo`, `mask` and, if wanted, `reference`, and the texts `prompt`,
// `negative_prompt`, `seed`, `steps`, `solver` and `guidance`. The answer is the edited PNG, or {"error": {"message",
// "param", "code"}} with 400 for what the caller can mend and 500 for what he cannot.
Response handle_edit(const alterbute::Editor& editor, std::string_view content_type, std::string_view body);

}  // namespace example
