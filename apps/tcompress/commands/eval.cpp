// tcompress eval: what one model does on data. tcompress compare: the same for two, side by side.

#include <fmt/core.h>

#include <chrono>
#include <filesystem>
#include <iostream>
#include <memory>

#include "apps/tcompress/command.h"
#include "apps/tcompress/dump_outputs.h"
#include "apps/tcompress/profile_text.h"
#include "lib/data/dataset.h"
#include "lib/ir/load.h"
#include "lib/measure/evaluate.h"
#include "lib/pipeline/records.h"
#include "lib/pipeline/staged_output.h"
#include "lib/support/atomic_file.h"
#include "lib/support/error.h"
#include "lib/support/parallel.h"

namespace tcompress::cli {

namespace {

struct Options {
    std::string model, other;
    std::string data;
    std::string dump;
    std::vector<std::string> reports;
    std::int64_t samples = 0;
    bool json = false, noLatency = false, profile = false;
    measure::EvaluateOptions evaluation;
};

report::ModelRecord record(const ir::Model& model, const std::string& file) {
    pipeline::ViewCache views;
    report::ModelRecord result = pipeline::modelRecord(model, views);
    pipeline::addFiles(result, file);
    return result;
}

/// Everything about the files to write that can be refused before any work is done.
void checkOutputs(const Options& options) {
    std::vector<std::filesystem::path> taken = {options.model, options.other, options.data};
    const auto check = [&](const std::string& file) {
        pipeline::checkOutput(file, taken, pipeline::InputOverwrite::never);
        taken.emplace_back(file);
    };
    for (const std::string& file : options.reports) {
        if (!file.ends_with(".json") && !file.ends_with(".md") && !file.ends_with(".markdown"))
            throw ConfigError(fmt::format("--report {}: the name must end in .json or .md", file));
        check(file);
    }
    if (options.dump.empty()) return;
    if (options.data.empty()) throw ConfigError("--dump-outputs needs data; give -d FILE");
    if (options.dump == "-") throw ConfigError("--dump-outputs -: arrays go to a file; name one");
    check(options.dump);
    if (!options.dump.ends_with(".npz")) throw ConfigError(fmt::format("--dump-outputs {}: the name must end in .npz", options.dump));
}

void writeReport(const report::Report& report, const std::string& file) {
    writeFileAtomically(file, file.ends_with(".json") ? report::toJson(report) : report::toMarkdown(report));
}

ExitCode execute(Options& options, const Session& session) {
    const auto start = std::chrono::steady_clock::now();
    checkOutputs(options);
    const ir::Model model = ir::load(options.model);
    std::optional<ir::Model> other;
    if (!options.other.empty()) other = ir::load(options.other);
    std::optional<data::Dataset> dataset;
    if (!options.data.empty()) {
        dataset = data::readDataset(options.data);
        if (options.samples > 0) dataset = dataset->head(options.samples);
    }
    if (!options.dump.empty())
        dumpOutputs(model, *dataset, options.evaluation.batchSize, options.dump, *session.progress);
    options.evaluation.latency = !options.noLatency;
    options.evaluation.progress = session.progress;

    report::Report report;
    report.toolVersion = TCOMPRESS_VERSION;
    report.command = session.commandLine;
    report.threads = threadCount();
    report.original = record(model, options.model);
    if (other) report.compressed = record(*other, options.other);
    if (dataset) report.data.push_back(pipeline::fileRecord(options.data));
    report.evaluation = measure::evaluate(model, other ? &*other : nullptr, dataset ? &*dataset : nullptr,
                                          options.evaluation);
    report.machine = measure::describeMachine();
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    report.peakMemoryBytes = measure::peakMemoryBytes();
    for (const std::string& file : options.reports) writeReport(report, file);
    std::cout << (options.json ? report::toJson(report) : report::toMarkdown(report));
    if (options.profile) {
        std::cout.flush();
        std::cerr << profileText(model, dataset, options.evaluation.latencyBatch);
        if (other) std::cerr << '\n' << options.other << ": " << profileText(*other, dataset, options.evaluation.latencyBatch);
    }
    return ExitCode::done;
}

void addShared(OptionList& list, Options& options) {
    list.value("-d,--data", "FILE", options.data,
               "samples, labelled or not (.npz); without them latency and energy only");
    list.integer("--samples", "N", options.samples, {0, std::int64_t{1} << 40},
                 "use at most so many samples, 0 for all");
    list.integer("--batch-size", "N", options.evaluation.batchSize, {1, 65536}, "samples per run");
    list.flag("--no-latency", options.noLatency, "do not measure latency");
    list.integer("--latency-runs", "N", options.evaluation.latencyRuns, {1, 100000},
                 "timed runs of each model");
    list.integer("--latency-batch", "N", options.evaluation.latencyBatch, {1, 65536},
                 "samples of a timed run");
    list.values("--report", "FILE", options.reports, "report to write, .json or .md");
    list.flag("--json", options.json, "print JSON instead of Markdown");
    list.flag("--profile", options.profile,
              "print to standard error the time of a timed run by operator and kernel, and which kernels refused");
}

}  // namespace

Command evalCommand() {
    auto options = std::make_shared<Options>();
    Command command{"eval", "measure a model: accuracy, latency, energy", {}, {}};
    command.options.positional("MODEL", options->model, Presence::required, "ONNX file");
    addShared(command.options, *options);
    command.options.value("--dump-outputs", "FILE", options->dump,
                          "write the model's outputs to this .npz file: one array an output, all samples in order");
    command.action = [options](Session& session) { return execute(*options, session); };
    return command;
}

Command compareCommand() {
    auto options = std::make_shared<Options>();
    Command command{
        "compare", "measure two models on the same samples, the second against the first", {}, {}};
    command.options.positional("ORIGINAL", options->model, Presence::required, "ONNX file");
    command.options.positional("COMPRESSED", options->other, Presence::required, "ONNX file");
    addShared(command.options, *options);
    command.action = [options](Session& session) { return execute(*options, session); };
    return command;
}

}  // namespace tcompress::cli
