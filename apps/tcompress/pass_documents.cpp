#include "apps/tcompress/pass_documents.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/tcompress/tables.h"
#include "lib/pipeline/pass_step.h"

namespace tcompress::cli {

namespace {

using pipeline::DataNeed;
using pipeline::PassInfo;

std::string_view dataText(DataNeed need) {
    switch (need) {
        case DataNeed::never:
            return "none";
        case DataNeed::optional:
            return "optional";
        case DataNeed::always:
            return "needed";
    }
    return "";
}

/// Text in a cell of a Markdown table.
std::string cell(std::string text) {
    std::string escaped;
    for (const char c : text) escaped += c == '|' ? std::string("\\|") : std::string(1, c);
    return escaped;
}

std::string optionRows(const PassInfo& info) {
    std::string text = "| option | takes | meaning |\n|---|---|---|\n";
    for (const OptionSpec& spec : info.options) {
        std::string name = fmt::format("`{}`", spec.name);
        for (const std::string& alias : spec.aliases) name += fmt::format(" (`{}`)", alias);
        text += fmt::format("| {} | {} | {} |\n", name, cell(optionDomain(spec)), cell(spec.help));
    }
    return text;
}

}  // namespace

std::string passList(std::span<const PassInfo> passes) {
    std::vector<std::vector<std::string>> rows = {{"pass", "calibration", "what it does"}};
    for (const PassInfo& info : passes)
        rows.push_back({pipeline::fullName(info) + (info.defaultMethod && !info.method.empty() ? " *" : ""),
                        std::string(dataText(info.data)), info.summary});
    return renderTable(rows, {Align::left, Align::left, Align::left}) +
           "\n* is taken when a pipeline names the family alone. `tcompress passes NAME` shows the "
           "options.\n";
}

std::string passHelp(std::span<const PassInfo> passes) {
    std::string text;
    for (const PassInfo& info : passes) {
        if (!text.empty()) text += "\n";
        text += fmt::format("{}: {}\n\n", pipeline::fullName(info), info.summary);
        if (!info.details.empty()) text += info.details + "\n\n";
        if (!info.paper.empty()) text += fmt::format("Source: {}\n", info.paper);
        text += fmt::format("Calibration data: {}\n", dataText(info.data));
        if (!info.options.empty()) text += "Options:\n" + describeOptions(info.options);
    }
    return text;
}

std::string passesMarkdown(std::span<const PassInfo> passes) {
    std::string text =
        "# Passes\n\nWritten by `scripts/update_generated.sh` from the passes' own declarations; do not "
        "edit.\n\n"
        "| pass | calibration data | what it does |\n|---|---|---|\n";
    for (const PassInfo& info : passes)
        text += fmt::format("| {}{} | {} | {} |\n", pipeline::fullName(info),
                            info.defaultMethod && !info.method.empty() ? " (default)" : "",
                            dataText(info.data), cell(info.summary));
    text +=
        "\nEvery pass object of a pipeline file may also have `allow_empty` (finding nothing to change is no "
        "error) and "
        "`comment`.\n";
    for (const PassInfo& info : passes) {
        text += fmt::format("\n## {}\n\n", pipeline::fullName(info));
        text += info.details.empty() ? info.summary + ".\n" : info.details + "\n";
        if (!info.paper.empty()) text += fmt::format("\nSource: {}\n", info.paper);
        if (!info.options.empty()) text += "\n" + optionRows(info);
    }
    return text;
}

std::string passesJson(std::span<const PassInfo> passes) {
    nlohmann::json list = nlohmann::json::array();
    for (const PassInfo& info : passes)
        list.push_back({{"type", info.type},
                        {"method", info.method},
                        {"default_method", info.defaultMethod},
                        {"summary", info.summary},
                        {"details", info.details},
                        {"paper", info.paper},
                        {"calibration", dataText(info.data)},
                        {"options", optionSchema(info.options)}});
    return list.dump(2) + "\n";
}

}  // namespace tcompress::cli
