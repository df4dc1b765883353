#include "lib/pipeline/one_liner.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "lib/support/error.h"

namespace tcompress::pipeline {

namespace {

std::vector<std::string> splitAtCommas(std::string_view text) {
    std::vector<std::string> parts(1);
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == ',')
            parts.back() += text[++i];
        else if (text[i] == ',')
            parts.emplace_back();
        else
            parts.back() += text[i];
    }
    return parts;
}

/// Others, without a value behind them, are values that a comma separated from their option.
bool isOptionName(const std::string& text) {
    return text.front() >= 'a' && text.front() <= 'z' && text.find_first_of(":/*.") == std::string::npos;
}

}  // namespace

nlohmann::json parseOneLiner(std::string_view text) {
    const auto fail = [&](const std::string& reason) {
        throw ConfigError(fmt::format("-p {}: {}; write NAME[/METHOD][:KEY=VALUE,KEY=VALUE]", text, reason));
    };
    nlohmann::json object = nlohmann::json::object();
    const std::size_t colon = std::min(text.find(':'), text.size());
    const std::string_view name = text.substr(0, colon);
    const std::size_t slash = name.find('/');
    object["type"] = std::string(name.substr(0, slash));
    if (object["type"] == "") fail("names no pass");
    if (slash != std::string_view::npos) object["method"] = std::string(name.substr(slash + 1));
    if (colon == text.size()) return object;
    for (const std::string& part : splitAtCommas(text.substr(colon + 1))) {
        const std::size_t equals = part.find('=');
        const std::string key = part.substr(0, equals);
        if (key.empty()) fail(part.empty() ? "has an empty option" : fmt::format("'{}' has no name", part));
        if (equals == std::string::npos && !isOptionName(key))
            fail(fmt::format("'{}' is no option; the values of a list are joined by '+', as in layers=0+1",
                             key));
        if (object.contains(key)) fail(fmt::format("'{}' is given twice", key));
        object[key] = equals == std::string::npos ? "true" : part.substr(equals + 1);
    }
    return object;
}

}  // namespace tcompress::pipeline
