#include "bundle/variants.hpp"

#include "bundle/typed_json.hpp"
#include "base/text.hpp"

namespace alterbute {

using typed::KeyFault;
using typed::Record;

namespace {

void check_audit(const Json& value, const std::string& key) {
  if (value.kind == Json::Kind::null) return;
  const Record record(value, key, {"multiply_adds", "shares", "islands", "overflow"});
  typed::integer(record.at("multiply_adds"), record.path("multiply_adds"));
  typed::map(record.at("shares"), record.path("shares"), typed::number);
  typed::map(record.at("islands"), record.path("islands"), typed::integer);
  typed::map(record.at("overflow"), record.path("overflow"), typed::number);
}

LaunchShape read_launch_shape(const Json& value, const std::string& key) {
  const Record record(value, key, {"slots", "rows"});
  return {typed::integer(record.at("slots"), record.path("slots")),
          typed::integer(record.at("rows"), record.path("rows"))};
}

}  // namespace

Variant read_variant(const Json& value, const std::string& key) {
  const Record record(value, key, {"backend", "file"},
                      {"prologue", "buckets", "is_deterministic", "unfused", "precision", "relative_error", "audit"});
  Variant variant;
  variant.backend = typed::string(record.at("backend"), record.path("backend"));
  variant.file = typed::string(record.at("file"), record.path("file"));
  if (const Json* prologue = record.find("prologue"); prologue != nullptr && prologue->kind != Json::Kind::null)
    variant.prologue = typed::string(*prologue, record.path("prologue"));
  if (const Json* buckets = record.find("buckets"))
    variant.buckets = typed::list(*buckets, record.path("buckets"), read_launch_shape);
  if (const Json* deterministic = record.find("is_deterministic"))
    variant.is_deterministic = typed::boolean(*deterministic, record.path("is_deterministic"));
  if (const Json* unfused = record.find("unfused"))
    typed::map(*unfused, record.path("unfused"), typed::integer);
  if (const Json* precision = record.find("precision"))
    variant.precision = typed::choice(*precision, record.path("precision"), {"fp32", "fp16", "bf16", "int8"});
  if (const Json* error = record.find("relative_error"); error != nullptr && error->kind != Json::Kind::null)
    typed::number(*error, record.path("relative_error"));
  if (const Json* audit = record.find("audit")) check_audit(*audit, record.path("audit"));
  return variant;
}

void check_variant(const std::string& key, const Variant& variant) {
  constexpr std::int64_t kMaxRows = 4096;
  for (const auto& [slots, rows] : variant.buckets) {
    if (slots < 1 || rows < slots || rows > kMaxRows) {
      throw KeyFault{key + ".buckets", std::to_string(slots) + " slots and " + std::to_string(rows) + " rows",
                     "1 slot or more, and a row or more for each, at most " + std::to_string(kMaxRows)};
    }
  }
}

}  // namespace alterbute
