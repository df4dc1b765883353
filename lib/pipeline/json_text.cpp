#include "lib/pipeline/json_text.h"

#include <fmt/core.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <vector>

#include "lib/support/error.h"

namespace tcompress::pipeline {

namespace {

using nlohmann::json;

constexpr std::size_t kLargestText = 16U << 20U;
constexpr int kDeepestNesting = 64;

/// Keys of the objects that are open while the parser runs.
class StructureGuard {
  public:
    explicit StructureGuard(const std::string& origin) : origin_(origin) {}

    bool operator()(int depth, json::parse_event_t event, json& value) {
        if (depth > kDeepestNesting)
            throw ConfigError(fmt::format("{}: nested deeper than {} levels", origin_, kDeepestNesting));
        if (event == json::parse_event_t::object_start) open_.emplace_back();
        if (event == json::parse_event_t::object_end) open_.pop_back();
        if (event == json::parse_event_t::key && !open_.back().insert(value.get<std::string>()).second)
            throw ConfigError(
                fmt::format("{}: the key '{}' is given twice in one object; remove one of the two", origin_,
                            value.get<std::string>()));
        return true;
    }

  private:
    std::string origin_;
    std::vector<std::set<std::string>> open_;
};

/// nlohmann's text without what it begins with: "[json.exception.parse_error.101] parse error at " or
/// "[json.exception.out_of_range.406] ".
std::string shortReason(const std::string& what) {
    for (const std::string marker : {"parse error at ", "] "})
        if (const std::size_t begin = what.find(marker); begin != std::string::npos)
            return what.substr(begin + marker.size());
    return what;
}

void checkSize(std::size_t size, const std::string& origin) {
    if (size > kLargestText)
        throw ConfigError(fmt::format("{}: {} bytes are too many for a pipeline file; at most {} are read",
                                      origin, size, kLargestText));
}

}  // namespace

json parseJson(std::string_view text, const std::string& origin) {
    checkSize(text.size(), origin);
    if (text.find_first_not_of(" \t\r\n") == std::string_view::npos)
        throw ConfigError(fmt::format("{}: is empty; a pipeline file is a JSON object", origin));
    try {
        return json::parse(text, StructureGuard(origin));
    } catch (const json::exception& error) {
        throw ConfigError(fmt::format("{}: {}", origin, shortReason(error.what())));
    }
}

std::string readConfigText(const std::filesystem::path& path) {
    if (path == "-") {
        std::string text(std::istreambuf_iterator<char>(std::cin), {});
        checkSize(text.size(), "standard input");
        return text;
    }
    std::error_code error;
    if (std::filesystem::is_directory(path, error))
        throw ConfigError(fmt::format("{}: is a folder; a pipeline file is wanted", path.string()));
    std::ifstream file(path, std::ios::binary);
    if (!file) throw ConfigError(fmt::format("{}: cannot be read: {}", path.string(), std::strerror(errno)));
    const std::uintmax_t size = std::filesystem::file_size(path, error);
    if (!error) checkSize(size, path.string());
    return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace tcompress::pipeline
