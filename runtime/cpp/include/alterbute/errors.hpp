// The errors that this library throws. Every message has what was seen, what was expected, and what to do.
#pragma once

#include <exception>
#include <string>

#include "alterbute/export.h"

namespace alterbute {

// Base of everything this library throws on purpose. `what()` is one printable line of UTF-8.
class ALTERBUTE_API Error : public std::exception {
 public:
  Error(std::string seen, std::string expected, std::string fix);
  ~Error() override;
  const char* what() const noexcept override { return line_.c_str(); }
  const std::string& seen() const noexcept { return seen_; }
  const std::string& expected() const noexcept { return expected_; }
  const std::string& fix() const noexcept { return fix_; }

 private:
  std::string seen_, expected_, fix_, line_;
};

// The request cannot be done as asked: photo, mask, prompt, steps, seed...
class ALTERBUTE_API InputError : public Error {
 public:
  // `param` is the argument at fault (`mask`, `steps`), `code` a stable word for machines (`mask_empty`).
  InputError(std::string seen, std::string expected, std::string fix, std::string param, std::string code);
  ~InputError() override;
  const std::string& param() const noexcept { return param_; }
  const std::string& code() const noexcept { return code_; }

 private:
  std::string param_, code_;
};

// The bundle is missing, damaged, altered, or of a schema that this version does not read.
class ALTERBUTE_API BundleError : public Error {
 public:
  using Error::Error;
  ~BundleError() override;
};

// ONNX Runtime is not found, or cannot load or run a graph of the bundle.
class ALTERBUTE_API EngineError : public Error {
 public:
  using Error::Error;
  ~EngineError() override;
};

// A GPU failed: out of memory, a kernel, or the device itself.
class ALTERBUTE_API DeviceError : public EngineError {
 public:
  DeviceError(std::string seen, std::string expected, std::string fix, bool is_fatal = false);
  ~DeviceError() override;
  // The device is lost to this process: every later call fails, and a server should end and be started again.
  bool is_fatal() const noexcept { return is_fatal_; }

 private:
  bool is_fatal_;
};

// The caller's `cancel` returned true; there is no result.
class ALTERBUTE_API Cancelled : public Error {
 public:
  using Error::Error;
  ~Cancelled() override;
};

}  // namespace alterbute
