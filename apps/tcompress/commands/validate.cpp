// tcompress validate: every problem of pipeline files, without a model.

#include <fmt/core.h>

#include <filesystem>
#include <iostream>
#include <memory>

#include "apps/tcompress/command.h"
#include "lib/pipeline/config.h"
#include "lib/pipeline/json_text.h"
#include "lib/support/error.h"
#include "passes/registry.h"

namespace tcompress::cli {

namespace {

void validate(const std::string& file) {
    pipeline::ConfigSources sources;
    sources.text = pipeline::readConfigText(file);
    if (sources.text.empty()) sources.text = " ";
    sources.origin = file == "-" ? "standard input" : file;
    sources.folder = std::filesystem::path(file).parent_path();
    const pipeline::Config config = pipeline::resolveConfig(sources, passes::registry());
    std::cout << sources.origin << ": fine,";
    if (config.passes.empty()) std::cout << " no passes";
    for (const pipeline::PassStep& step : config.passes) std::cout << ' ' << step.name();
    std::cout << '\n';
}

ExitCode execute(const std::vector<std::string>& files) {
    std::string problems;
    for (const std::string& file : files) {
        try {
            validate(file);
        } catch (const ConfigError& error) {
            problems += (problems.empty() ? "" : "\n") + std::string(error.what());
        }
    }
    if (!problems.empty()) throw ConfigError(problems);
    return ExitCode::done;
}

}  // namespace

Command validateCommand() {
    auto files = std::make_shared<std::vector<std::string>>();
    Command command{"validate", "check pipeline files and tell every problem", {}, {}};
    command.options.positionals("FILES", *files, Presence::required,
                                "pipeline files; - reads standard input");
    command.action = [files](Session&) { return execute(*files); };
    return command;
}

}  // namespace tcompress::cli
