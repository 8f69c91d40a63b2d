// The manifest's variants of a graph: which file is for which backend, and at which sizes it is launched.
#pragma once

#include <string>

#include "bundle/json.hpp"
#include "bundle/manifest.hpp"

namespace alterbute {

// Both throw typed::KeyFault.
Variant read_variant(const Json& value, const std::string& key);
void check_variant(const std::string& key, const Variant& variant);

}  // namespace alterbute
