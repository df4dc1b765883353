// tcompress run: a pipeline on a model.

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "apps/tcompress/command.h"
#include "apps/tcompress/depfile.h"
#include "apps/tcompress/pipeline_options.h"
#include "apps/tcompress/plan_text.h"
#include "apps/tcompress/profile_text.h"
#include "lib/data/dataset.h"
#include "lib/ir/load.h"
#include "lib/pipeline/pipeline.h"
#include "lib/support/error.h"
#include "lib/support/parallel.h"
#include "passes/registry.h"

namespace tcompress::cli {

namespace {

struct Options {
    PipelineOptions pipeline;
    std::string model, output;
    std::string dumpFolder, depfile;
    bool force = false, dryRun = false, json = false, profile = false;
};

pipeline::Config resolve(Options& options) {
    if (!options.pipeline.namesPipeline())
        throw ConfigError("run: no pipeline is named; give -c FILE, --preset NAME or -p PASS");
    if (options.json && !options.dryRun)
        throw ConfigError("run: --json prints the plan of --dry-run; give that too, or --report FILE.json for what a run did");
    if (!options.model.empty()) options.pipeline.set("/model", nlohmann::json(options.model).dump(), "MODEL");
    if (!options.output.empty())
        options.pipeline.set("/output", nlohmann::json(options.output).dump(), "--output");
    return pipeline::resolveConfig(options.pipeline.sources(), passes::registry());
}

/// What the pipeline file cannot say of files: none that is written may be one that is read, or written already.
void checkFiles(const Options& options, const pipeline::Config& config) {
    std::vector<std::filesystem::path> outputs = {config.output};
    for (const auto* reports : {&config.report.json, &config.report.markdown})
        outputs.insert(outputs.end(), reports->begin(), reports->end());
    if (std::count(outputs.begin(), outputs.end(), "-") > 1)
        throw ConfigError("-: standard output takes one file; name the others");
    for (const std::filesystem::path& output : outputs)
        if (!output.empty())
            pipeline::checkOutput(output, {options.pipeline.configFile()}, pipeline::InputOverwrite::never);
    if (!options.depfile.empty()) {
        outputs.insert(outputs.end(), {config.model, config.calibration.file, config.evaluation.file,
                                       options.pipeline.configFile()});
        pipeline::checkOutput(options.depfile, outputs, pipeline::InputOverwrite::never);
    }
    std::error_code error;
    if (std::filesystem::exists(options.dumpFolder, error) && !std::filesystem::is_directory(options.dumpFolder, error))
        throw ConfigError(fmt::format("--dump-after {}: is a file; name a folder", options.dumpFolder));
}

void printProfile(const pipeline::Config& config) {
    std::optional<data::Dataset> dataset;
    if (!config.evaluation.file.empty()) dataset = data::readDataset(config.evaluation.file);
    std::cerr << config.output << ": " << profileText(ir::load(config.output), dataset, 1);
}

ExitCode execute(Options& options, const Session& session) {
    pipeline::Config config = resolve(options);
    if (session.common.threads) config.threads = *session.common.threads;
    setThreadCount(static_cast<int>(config.threads));

    pipeline::RunOptions run;
    run.commandLine = session.commandLine;
    run.dumpFolder = options.dumpFolder;
    run.overwrite = options.force ? pipeline::InputOverwrite::allow : pipeline::InputOverwrite::refuse;
    run.progress = session.progress;
    if (options.dryRun) {
        const report::Report plan = pipeline::plan(config, run);
        std::cout << (options.json ? report::toJson(plan) : planText(plan));
        return ExitCode::done;
    }
    checkFiles(options, config);
    if (options.profile && config.output == "-")
        throw ConfigError("run: --profile needs a file to profile; give -o FILE");
    const report::Report report = pipeline::run(config, run);
    if (options.profile) printProfile(config);
    if (!options.depfile.empty()) writeDepfile(options.depfile, config, options.pipeline.configFile());
    if (!pipeline::constraintMissed(report)) return ExitCode::done;
    for (const report::ConstraintRow& row : report.constraints)
        if (row.outcome != report::ConstraintOutcome::met)
            log::error("constraint {} was missed: limit {}, actual {}; {} was kept", row.name, row.limit,
                       row.actual ? fmt::format("{:.4g}", *row.actual) : "not measured", config.output);
    return ExitCode::constraintMissed;
}

}  // namespace

Command runCommand() {
    auto options = std::make_shared<Options>();
    Command command{"run", "run a pipeline of passes on a model", {}, {}};
    command.options.positional("MODEL", options->model, Presence::optional,
                               "ONNX file to compress, where the pipeline file names none");
    command.options.value("-o,--output", "FILE", options->output, "ONNX file to write; - is standard output");
    options->pipeline.addPipeline(command.options);
    options->pipeline.addData(command.options);
    options->pipeline.addReport(command.options);
    options->pipeline.addSettings(command.options);
    command.options.group("Output");
    command.options.flag("--force", options->force, "the output may replace the input");
    command.options.flag("--dry-run", options->dryRun,
                         "write nothing; print what each pass would do, the size, the work and the memory");
    command.options.flag("--json", options->json, "print the dry run as JSON");
    command.options.flag("--profile", options->profile,
                         "print to standard error the time of the output by operator and kernel, and which kernels refused");
    command.options.value("--dump-after", "FOLDER", options->dumpFolder,
                          "write the model after each pass to this folder");
    command.options.value("--depfile", "FILE", options->depfile,
                          "write a Make rule of everything the output was made from");
    command.action = [options](Session& session) { return execute(*options, session); };
    return command;
}

}  // namespace tcompress::cli
