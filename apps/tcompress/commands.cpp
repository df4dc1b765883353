#include "apps/tcompress/command.h"

namespace tcompress::cli {

std::vector<Command> allCommands() {
    return {runCommand(),         inspectCommand(), evalCommand(),        compareCommand(),
            sensitivityCommand(), passesCommand(),  presetsCommand(),     validateCommand(),
            schemaCommand(),      batchCommand(),   completionsCommand(), manCommand()};
}

OptionList commonOptions(CommonOptions& common) {
    OptionList options;
    options.group("Common");
    // Parsed into the member only when given: 0 is a setting of its own.
    options.value(
        "--threads", "N",
        [&common](const std::string& text) {
            std::int64_t threads = 0;
            OptionList number;
            number.integer("--threads", "N", threads, {0, 4096}, "").take({text});
            common.threads = threads;
        },
        "threads to use, 0 for every processor; results do not depend on it");
    options.flag("-q,--quiet", common.quiet, "say nothing but errors");
    options.flag("-v,--verbose", common.verbose, "say more: each site that was changed or skipped");
    options
        .value(
            "--log-format", "FORMAT",
            [&common](const std::string& format) {
                common.logFormat = format == "json" ? log::Format::json : log::Format::text;
            },
            "text, or json for one object a line")
        .choices = {"text", "json"};
    return options;
}

}  // namespace tcompress::cli
