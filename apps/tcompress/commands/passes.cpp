// tcompress passes: the list of passes, and one pass with its options.

#include <fmt/core.h>
#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/tcompress/command.h"
#include "apps/tcompress/pass_documents.h"
#include "lib/pipeline/pass_step.h"
#include "lib/support/diagnostics.h"
#include "lib/support/error.h"
#include "passes/registry.h"

namespace tcompress::cli {

namespace {

struct Options {
    std::string name;
    bool json = false, markdown = false;
};

std::vector<pipeline::PassInfo> chosen(const std::string& name) {
    const std::span<const pipeline::PassInfo> registry = passes::registry();
    if (name.empty()) return {registry.begin(), registry.end()};
    std::vector<pipeline::PassInfo> found;
    std::vector<std::string> names;
    for (const pipeline::PassInfo& info : registry) {
        if (info.type == name || pipeline::fullName(info) == name) found.push_back(info);
        names.push_back(info.type);
        names.push_back(pipeline::fullName(info));
    }
    if (found.empty())
        throw ConfigError(fmt::format("passes: no pass is called '{}'{}", name,
                                      didYouMeanOr(name, names, "`tcompress passes` lists them")));
    return found;
}

ExitCode execute(const Options& options) {
    const std::vector<pipeline::PassInfo> passes = chosen(options.name);
    if (options.json)
        std::cout << passesJson(passes);
    else if (options.markdown)
        std::cout << passesMarkdown(passes);
    else
        std::cout << (options.name.empty() ? passList(passes) : passHelp(passes));
    return ExitCode::done;
}

}  // namespace

Command passesCommand() {
    auto options = std::make_shared<Options>();
    Command command{"passes", "list the passes, or show one with its options", {}, {}};
    command.options.positional("NAME", options->name, Presence::optional, "family or family/method");
    command.options.flag("--json", options->json, "print JSON");
    command.options.flag("--markdown", options->markdown,
                         "print the documentation of the passes (docs/passes.md)");
    command.action = [options](Session&) { return execute(*options); };
    return command;
}

}  // namespace tcompress::cli
