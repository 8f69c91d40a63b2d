// The smallest server around edit_handler.hpp:  http_server BUNDLE [PORT]   (127.0.0.1 only; port 0 takes a free one
// and prints it)
//
//     curl -F photo=@photo.png -F mask=@mask.png -F 'prompt=color: red' http://127.0.0.1:8080/edit -o edited.png
//
// It shows the handler, not how to serve: put a real server with TLS, timeouts and limits of its own in front of
// strangers.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <alterbute/alterbute.hpp>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "edit_handler.hpp"

namespace {

constexpr std::size_t kMaxHeadBytes = 16U << 10, kMaxBodyBytes = 64U << 20;
constexpr int kMaxConnections = 16, kTimeoutSeconds = 30;
// For a whole request: a client that sends a byte now and then is not waited for longer.
constexpr std::chrono::seconds kMostForRequest{120};

using Deadline = std::chrono::steady_clock::time_point;

// The value of a header, from a head in lower case up to its values.
std::string header(const std::string& head, const char* name) {
  for (std::size_t at = head.find("\r\n"); at != std::string::npos; at = head.find("\r\n", at + 2)) {
    const std::size_t colon = head.find(':', at), end = head.find("\r\n", at + 2);
    if (colon == std::string::npos || colon > end) continue;
    std::string key = head.substr(at + 2, colon - at - 2);
    for (char& letter : key) letter = letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 32) : letter;
    if (key != name) continue;
    const std::size_t start = head.find_first_not_of(' ', colon + 1);
    return head.substr(start, end - start);
  }
  return "";
}

bool send_all(int socket, const std::string& bytes) {
  for (std::size_t sent = 0; sent < bytes.size();) {
    const ssize_t count = ::send(socket, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (count <= 0) return false;
    sent += static_cast<std::size_t>(count);
  }
  return true;
}

// Reads until `bytes` holds `size`; false when the peer left or stalled.
bool read_until(int socket, std::string& bytes, std::size_t size, const Deadline& deadline) {
  char chunk[16384];
  while (bytes.size() < size) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    const ssize_t count = ::recv(socket, chunk, sizeof chunk, 0);
    if (count <= 0) return false;
    bytes.append(chunk, static_cast<std::size_t>(count));
  }
  return true;
}

example::Response answer(const alterbute::Editor& editor, int socket) {
  const auto plain = [](int status, const char* line) {
    return example::Response{status, "text/plain", std::string(line) + "\n"};
  };
  const Deadline deadline = std::chrono::steady_clock::now() + kMostForRequest;
  std::string bytes;
  std::size_t head_end = std::string::npos;
  while ((head_end = bytes.find("\r\n\r\n")) == std::string::npos) {
    if (bytes.size() > kMaxHeadBytes) return plain(431, "the head is too long");
    if (!read_until(socket, bytes, bytes.size() + 1, deadline)) return plain(408, "the request is incomplete");
  }
  const std::string head = bytes.substr(0, head_end + 2);
  if (head.compare(0, 14, "GET /health HT") == 0) return plain(200, "ok");
  if (head.compare(0, 12, "POST /edit H") != 0) return plain(404, "POST /edit or GET /health");
  // A page in the user's browser may post here, too: it is another origin, and no other origin is served.
  if (!header(head, "origin").empty()) return plain(403, "requests of web pages are refused");
  if (!header(head, "transfer-encoding").empty()) return plain(501, "a body with a Content-Length is needed");
  const std::string length = header(head, "content-length");
  if (length.empty() || length.size() > 9 || length.find_first_not_of("0123456789") != std::string::npos)
    return plain(411, "a Content-Length is needed");
  const std::size_t size = std::strtoul(length.c_str(), nullptr, 10), start = head_end + 4;
  if (size > kMaxBodyBytes) return plain(413, "the body is too large");
  if (header(head, "expect") == "100-continue" && !send_all(socket, "HTTP/1.1 100 Continue\r\n\r\n"))
    return plain(408, "the peer left");
  if (!read_until(socket, bytes, start + size, deadline)) return plain(408, "the body is incomplete");
  return example::handle_edit(editor, header(head, "content-type"), std::string_view(bytes).substr(start, size));
}

void serve(const alterbute::Editor& editor, int socket, std::atomic<int>& connections) {
  const timeval timeout{kTimeoutSeconds, 0};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  try {
    const example::Response response = answer(editor, socket);
    send_all(socket, "HTTP/1.1 " + std::to_string(response.status) + " -\r\nContent-Type: " + response.content_type +
                         "\r\nContent-Length: " + std::to_string(response.body.size()) +
                         "\r\nConnection: close\r\n\r\n" + response.body);
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "connection dropped: %s\n", fault.what());
  }
  ::close(socket);
  --connections;
}

int listen_on(unsigned short port) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int yes = 1;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  const bool is_listening = listener >= 0 && ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
                            ::bind(listener, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                            ::listen(listener, 64) == 0 &&
                            ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  if (!is_listening)
    throw alterbute::InputError("port " + std::to_string(port) + " cannot be listened on", "a free port",
                                "choose another, or 0", "port", "port_taken");
  std::printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  return listener;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("usage: http_server BUNDLE [PORT]\n", stderr);
    return 2;
  }
  try {
    const alterbute::Editor editor(argv[1]);
    editor.load();
    const int listener = listen_on(static_cast<unsigned short>(argc > 2 ? std::atoi(argv[2]) : 8080));
    // Threads outlive this loop only when the process is killed, which ends them.
    static std::atomic<int> connections{0};
    for (;;) {
      const int socket = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (socket < 0) continue;
      if (++connections > kMaxConnections) {
        send_all(socket, "HTTP/1.1 503 -\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        ::close(socket);
        --connections;
        continue;
      }
      std::thread([editor, socket] { serve(editor, socket, connections); }).detach();
    }
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "error: %s\n", fault.what());
    return 1;
  }
}
