#include "alterbute/errors.hpp"

#include "base/text.hpp"

namespace alterbute {

Error::Error(std::string seen, std::string expected, std::string fix)
    // The parts may hold names that a bundle chose, and are shown by themselves, too.
    : seen_(text::printable_line(seen)), expected_(text::printable_line(expected)), fix_(text::printable_line(fix)) {
  line_ = seen_ + "; expected " + expected_ + "; " + fix_;
}

InputError::InputError(std::string seen, std::string expected, std::string fix, std::string param, std::string code)
    : Error(std::move(seen), std::move(expected), std::move(fix)), param_(std::move(param)), code_(std::move(code)) {}

DeviceError::DeviceError(std::string seen, std::string expected, std::string fix, bool is_fatal)
    : EngineError(std::move(seen), std::move(expected), std::move(fix)), is_fatal_(is_fatal) {}

// Out of line, so that every program shares this library's type information and can catch what it throws.
Error::~Error() = default;
InputError::~InputError() = default;
BundleError::~BundleError() = default;
EngineError::~EngineError() = default;
DeviceError::~DeviceError() = default;
Cancelled::~Cancelled() = default;

}  // namespace alterbute
