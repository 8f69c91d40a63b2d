#include "settings.h"

#include <cstdlib>

namespace standin {
namespace {

std::string text(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

unsigned long long number(const char* name, unsigned long long otherwise) {
    const std::string value = text(name);
    return value.empty() ? otherwise : std::strtoull(value.c_str(), nullptr, 10);
}

}  // namespace

const Settings& settings() {
    static const Settings* const read = new Settings{
        text("STANDIN_LOG"),
        static_cast<int>(number("STANDIN_DEVICES", 1)),
        number("STANDIN_MEMORY", 80ull << 30),
        number("STANDIN_OCCUPIED", 0),
        static_cast<int>(number("STANDIN_CAPABILITY", 90)),
        static_cast<int>(number("STANDIN_DRIVER", 13000)),
        static_cast<int>(number("STANDIN_INIT_ERROR", 0)),
        text("STANDIN_FAULTS"),
    };
    return *read;
}

}  // namespace standin
