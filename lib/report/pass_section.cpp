#include <fmt/core.h>

#include <map>
#include <nlohmann/json.hpp>

#include "lib/report/sections.h"
#include "lib/report/text.h"

namespace tcompress::report {
namespace {

// A model of 24 blocks has hundreds of sites: the JSON report has them all.
constexpr std::size_t shownSites = 24;

std::string title(const PassRow& pass) {
    return pass.method.empty() ? pass.type : pass.type + " / " + pass.method;
}

/// "ratio=0.5, scope=layer"; null and empty options say nothing.
std::string optionText(const std::string& json) {
    if (json.empty()) return {};
    std::string text;
    const auto options = nlohmann::ordered_json::parse(json);
    for (const auto& [key, value] : options.items()) {
        if (value.is_null() || ((value.is_array() || value.is_string()) && value.empty())) continue;
        text += fmt::format("{}{}={}", text.empty() ? "" : ", ", key,
                            value.is_string() ? value.get<std::string>() : value.dump());
    }
    return text;
}

std::string changedTable(const PassRow& pass) {
    bool errors = false;
    for (const ChangedSite& site : pass.changed) errors |= site.error.has_value();
    Table table = errors ? Table{{"site", Align::left}, {"change", Align::left}, {"relative error"}}
                         : Table{{"site", Align::left}, {"change", Align::left}};
    for (std::size_t i = 0; i < std::min(shownSites, pass.changed.size()); ++i) {
        const ChangedSite& site = pass.changed[i];
        std::vector<std::string> cells{code(site.site), site.change};
        if (errors) cells.push_back(site.error ? numberText(*site.error) : "-");
        table.row(std::move(cells));
    }
    std::string text = table.text();
    if (pass.changed.size() > shownSites)
        text += fmt::format("… and {} more.\n\n", pass.changed.size() - shownSites);
    return text;
}

std::string skippedList(const PassRow& pass) {
    std::map<std::string, std::vector<std::string>> byReason;
    for (const SkippedSite& site : pass.skipped) byReason[site.reason].push_back(site.site);
    std::string text = "Left alone:\n\n";
    for (const auto& [reason, sites] : byReason) {
        constexpr std::size_t shown = 6;
        text += fmt::format("- {} ({}): ", reason, sites.size());
        for (std::size_t i = 0; i < std::min(shown, sites.size()); ++i)
            text += fmt::format("{}{}", i == 0 ? "" : ", ", code(sites[i]));
        text += sites.size() > shown ? " …\n" : "\n";
    }
    return text + '\n';
}

}  // namespace

std::string passSection(const Report& report) {
    if (report.passes.empty()) return {};
    Table table{{"#"},
                {"pass", Align::left},
                {"options", Align::left},
                {"changed"},
                {"left alone"},
                {"bytes"},
                {"parameters"},
                {"MACs"},
                {"time"}};
    std::string details;
    for (std::size_t i = 0; i < report.passes.size(); ++i) {
        const PassRow& pass = report.passes[i];
        const auto change = [&](std::int64_t Totals::*member, auto text) -> std::string {
            if (!pass.before || !pass.after) return "-";
            const std::int64_t before = *pass.before.*member, after = *pass.after.*member;
            return before == after ? text(after) : fmt::format("{} to {}", text(before), text(after));
        };
        const auto bytes = [](std::int64_t n) { return bytesText(static_cast<std::uint64_t>(n)); };
        table.row({std::to_string(i + 1), title(pass), optionText(pass.optionsJson),
                   std::to_string(pass.changed.size()), std::to_string(pass.skipped.size()),
                   change(&Totals::bytes, bytes), change(&Totals::parameters, countText),
                   change(&Totals::macs, countText), secondsText(pass.seconds)});
        if (pass.changed.empty() && pass.skipped.empty() && pass.notes.empty()) continue;
        details += fmt::format("### {}. {}\n\n", i + 1, title(pass));
        for (const std::string& note : pass.notes) details += fmt::format("- {}\n", note);
        if (!pass.notes.empty()) details += '\n';
        if (!pass.changed.empty()) details += changedTable(pass);
        if (!pass.skipped.empty()) details += skippedList(pass);
    }
    return "## Passes\n\n" + table.text() + details;
}

}  // namespace tcompress::report
