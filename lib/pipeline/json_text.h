#pragma once
// Reading JSON that people wrote: strict (RFC 8259), with limits on size and nesting, and a key that is given
// twice in one object is an error, because one of the two would silently lose.

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace tcompress::pipeline {

/// Throws ConfigError of one line: "ORIGIN: line 3, column 5: …".
nlohmann::json parseJson(std::string_view text, const std::string& origin);

/// The text of a file, or of standard input for "-". Throws ConfigError when it is missing, unreadable or
/// larger than 16 MiB.
std::string readConfigText(const std::filesystem::path& path);

}  // namespace tcompress::pipeline
