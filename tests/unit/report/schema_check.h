#pragma once
// The part of JSON Schema that the report's schema uses, and stricter: a key that the schema does not name is
// wrong.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tcompress::report {

/// Problems with their places; empty when `value` is what the schema says.
std::vector<std::string> schemaProblems(const nlohmann::json& schema, const nlohmann::json& value);

}  // namespace tcompress::report
