// tcompress presets: the ready pipelines.

#include <fmt/core.h>

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/tcompress/command.h"
#include "apps/tcompress/presets.h"
#include "apps/tcompress/tables.h"

namespace tcompress::cli {

namespace {

ExitCode execute(const std::string& name) {
    if (!name.empty()) {
        std::cout << findPreset(name).text;
        return ExitCode::done;
    }
    std::vector<std::vector<std::string>> rows = {{"preset", "what it is for"}};
    for (const Preset& preset : presets())
        rows.push_back(
            {std::string(preset.name), nlohmann::json::parse(preset.text).value("description", "")});
    std::cout << renderTable(rows, {Align::left, Align::left});
    return ExitCode::done;
}

}  // namespace

Command presetsCommand() {
    auto name = std::make_shared<std::string>();
    Command command{"presets", "list the ready pipelines, or print one", {}, {}};
    command.options.positional("NAME", *name, Presence::optional, "preset to print");
    command.action = [name](Session&) { return execute(*name); };
    return command;
}

}  // namespace tcompress::cli
