// tcompress schema: JSON Schema of the pipeline file and of the report.

#include <iostream>
#include <memory>

#include "apps/tcompress/command.h"
#include "lib/pipeline/config.h"
#include "lib/report/report.h"
#include "passes/registry.h"

namespace tcompress::cli {

namespace {

ExitCode execute(const std::string& which) {
    std::cout << (which == "report" ? report::jsonSchema() : pipeline::configSchema(passes::registry()));
    return ExitCode::done;
}

}  // namespace

Command schemaCommand() {
    auto which = std::make_shared<std::string>("pipeline");
    Command command{"schema", "print the JSON Schema of the pipeline file or of the report", {}, {}};
    command.options.positional("WHICH", *which, Presence::optional, "pipeline or report").choices = {
        "pipeline", "report"};
    command.action = [which](Session&) { return execute(*which); };
    return command;
}

}  // namespace tcompress::cli
