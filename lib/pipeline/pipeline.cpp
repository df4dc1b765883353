#include "lib/pipeline/pipeline.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iostream>

#include "lib/exec/executor.h"
#include "lib/ir/load.h"
#include "lib/ir/save.h"
#include "lib/pipeline/constraint_check.h"
#include "lib/pipeline/pass_runner.h"
#include "lib/pipeline/records.h"
#include "lib/pipeline/verify_output.h"
#include "lib/report/text.h"
#include "lib/support/atomic_file.h"
#include "lib/support/error.h"
#include "lib/support/log.h"
#include "lib/support/parallel.h"

namespace tcompress::pipeline {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

Progress& progressOf(const RunOptions& options) {
    return options.progress ? *options.progress : silentProgress();
}

void requireModel(const Config& config) {
    if (config.model.empty())
        throw ConfigError("no model is named; give MODEL or set \"model\" in the pipeline file");
}

/// Everything that can be refused before the model is read.
void checkBeforeWork(const Config& config, const RunOptions& options) {
    requireModel(config);
    if (config.output.empty())
        throw ConfigError("no output is named; give -o FILE or set \"output\" in the pipeline file");
    if (config.output == "-" && config.weights == WeightStorage::external)
        throw ConfigError("weights beside the model cannot go to standard output; name an output file");
    checkOutput(config.output, {config.model, config.calibration.file, config.evaluation.file},
                options.overwrite);
    for (const std::vector<std::string>& files : {config.report.json, config.report.markdown})
        for (const std::string& file : files)
            checkOutput(file, {config.model, config.calibration.file, config.evaluation.file, config.output},
                        InputOverwrite::never);
    if (config.constraints.maxAccuracyDrop && config.evaluation.file.empty())
        throw ConfigError(
            "constraint max_accuracy_drop needs labelled evaluation data; give --evaluation FILE");
    if (config.constraints.minSpeedup && config.report.latency == LatencyMeasurement::never)
        throw ConfigError(
            "constraint min_speedup needs latency, which is not to be measured; take --no-latency (report.latency \"never\") "
            "or the constraint out");
    if (!config.evaluation.metrics.empty() && config.evaluation.file.empty())
        throw ConfigError(
            "data.evaluation.metrics are asked for without evaluation data; give --evaluation FILE");
}

/// The weights that a model keeps beside itself are read as it is.
void checkExternalFiles(const Config& config, const RunOptions& options) {
    const std::vector<fs::path> weights = externalFiles(config.model);
    if (weights.empty() || config.output == "-") return;
    checkOutput(config.output, weights, options.overwrite);
    if (fs::path data = config.output + ".data"; fs::is_regular_file(data))
        checkOutput(data, weights, options.overwrite);
}

struct RunData {
    std::optional<data::CalibrationData> calibration;
    std::optional<data::Dataset> evaluation;
};

std::optional<data::Dataset> readSamples(const std::string& file, std::int64_t samples,
                                         const ir::Model& model) {
    if (file.empty()) return std::nullopt;
    data::Dataset dataset = data::fitToModel(data::readDataset(file), model);
    return samples > 0 ? dataset.head(samples) : dataset;
}

RunData readData(const Config& config, const ir::Model& model) {
    RunData data;
    const auto seed = static_cast<std::uint64_t>(config.seed);
    std::optional<data::Dataset> samples =
        readSamples(config.calibration.file, config.calibration.samples, model);
    if (config.calibration.synthetic > 0)
        samples = data::syntheticDataset(model, config.calibration.synthetic, seed);
    if (samples) {
        data::Enlargement how{config.calibration.enlarge, seed, data::vocabularies(model), data::imageInputs(model)};
        // One recipe serves models of any kind: what reads neither tokens nor pictures is calibrated on what was given.
        if (!how.isPossible()) how.factor = 1;
        data.calibration.emplace(*std::move(samples), std::move(how));
    }
    data.evaluation = readSamples(config.evaluation.file, config.evaluation.samples, model);
    if (config.constraints.maxAccuracyDrop && !data.evaluation->labels())
        throw DataError(
            fmt::format("{}: holds no labels, and constraint max_accuracy_drop needs them; add an array "
                        "'labels'",
                        config.evaluation.file));
    return data;
}

void warn(report::Report& report, std::string message) {
    log::warning("{}", message);
    report.warnings.push_back(std::move(message));
}

/// Evidence that is not real data is said to be none.
void noteMadeSamples(const Config& config, const RunData& data, report::Report& report) {
    if (!data.calibration) return;
    if (config.calibration.synthetic > 0) warn(report, "passes calibrated on random inputs (data.calibration.synthetic)");
    const std::int64_t given = data.calibration->given().sampleCount();
    const std::int64_t all = data.calibration->all().sampleCount();
    if (all > given)
        warn(report, fmt::format("passes calibrated on {} samples, of which {} were given and {} made of them "
                                 "(data.calibration.enlarge)",
                                 all, given, all - given));
    else if (config.calibration.enlarge > 1)
        warn(report, "no samples were made (data.calibration.enlarge): only sequences of token ids and pictures can be "
                     "enlarged, and the model reads neither");
}

std::vector<report::PassRow> runPasses(PassRunner& runner, ir::Model& model, const Config& config) {
    std::vector<report::PassRow> rows;
    for (std::size_t i = 0; i < config.passes.size(); ++i) rows.push_back(runner.run(model, i));
    return rows;
}

bool wantsLatency(const Config& config) {
    if (config.report.latency == LatencyMeasurement::never) return false;
    return config.report.latency == LatencyMeasurement::always || config.constraints.minSpeedup ||
           !config.evaluation.file.empty();
}

bool wantsEvaluation(const Config& config) {
    return !config.evaluation.file.empty() || wantsLatency(config) || config.report.any();
}

measure::Evaluation evaluate(const ir::Model& original, const ir::Model& compressed, const RunData& data,
                             const Config& config, Progress& progress) {
    measure::EvaluateOptions options;
    options.batchSize = config.evaluation.batchSize;
    options.latency = wantsLatency(config);
    options.latencyRuns = config.report.latencyRuns;
    options.energy = config.report.energy;
    options.gridGramsPerKwh = config.report.gridGramsPerKwh;
    options.progress = &progress;
    return measure::evaluate(original, &compressed, data.evaluation ? &*data.evaluation : nullptr, options);
}

/// Metrics that were computed, by the names `metrics` may ask for.
std::vector<std::string> metricNames(const measure::Evaluation& evaluation) {
    std::vector<std::string> names;
    if (evaluation.compressedTask)
        for (const auto& [name, estimate] : evaluation.compressedTask->metrics) names.push_back(name);
    const auto add = [&](const char* name, bool computed) {
        if (computed && std::find(names.begin(), names.end(), name) == names.end()) names.emplace_back(name);
    };
    for (const auto& [output, fidelity] : evaluation.fidelity) {
        add("cosine", fidelity.cosine.samples > 0);
        add("mean_pooled_cosine", fidelity.meanPooledCosine.samples > 0);
        add("neighbour_agreement", fidelity.neighbourAgreement.samples > 0);
        add("kl_divergence", fidelity.klDivergence.samples > 0);
        add("top1_agreement", fidelity.top1Agreement.samples > 0);
        add("sqnr", fidelity.cosine.samples > 0);
    }
    return names;
}

void requireMetrics(const std::vector<std::string>& wanted, const measure::Evaluation& evaluation) {
    const std::vector<std::string> computed = metricNames(evaluation);
    for (const std::string& name : wanted)
        if (std::find(computed.begin(), computed.end(), name) == computed.end())
            throw DataError(fmt::format(
                "metric '{}' is asked for, and the evaluation data and the model's outputs give only "
                "{}{}",
                name, fmt::join(computed, ", "), didYouMean(name, computed)));
}

void writeReport(const std::string& text, const std::string& file) {
    if (file == "-")
        std::cout << text << std::flush;
    else
        writeFileAtomically(file, text);
}

void writeReports(const ReportSettings& settings, const report::Report& report) {
    for (const std::string& file : settings.json) writeReport(report::toJson(report), file);
    for (const std::string& file : settings.markdown) writeReport(report::toMarkdown(report), file);
}

report::Report startReport(const Config& config, const RunOptions& options) {
    report::Report report;
    report.toolVersion = TCOMPRESS_VERSION;
    report.command = options.commandLine;
    report.configJson = configJson(config);
    report.seed = static_cast<std::uint64_t>(config.seed);
    report.threads = threadCount();
    return report;
}

void addDataRecords(const Config& config, report::Report& report) {
    for (const std::string& file : {config.calibration.file, config.evaluation.file})
        if (!file.empty()) report.data.push_back(fileRecord(file));
}

PassRunnerOptions runnerOptions(const Config& config, const RunOptions& options, const ir::Model& original,
                                RowTotals totals) {
    PassRunnerOptions result;
    result.original = &original;
    result.totals = totals;
    result.dumpFolder = options.dumpFolder;
    result.commandLine = options.commandLine;
    if (!config.output.empty() && config.output != "-")
        result.reproducerFolder = config.output + ".reproducer";
    return result;
}

void warnWhenSlower(report::Report& report) {
    if (!report.evaluation || !report.evaluation->latency) return;
    const measure::LatencyComparison& latency = *report.evaluation->latency;
    if (latency.speedupHigh > 0 && latency.speedupHigh < 1)
        warn(report,
             fmt::format("the output is slower than the original: {:.2f} times its speed", latency.speedup));
}

/// Half a percent is what the names of new nodes take.
constexpr double kWorthAWarning = 1.005;

void warnWhenLarger(report::Report& report, std::uint64_t before, std::uint64_t after) {
    const double ratio = static_cast<double>(after) / static_cast<double>(before);
    if (ratio > kWorthAWarning)
        warn(report, fmt::format("the output is larger than the original: {:.1f} % of its size", 100 * ratio));
}

}  // namespace

report::Report run(const Config& config, const RunOptions& options) {
    const Clock::time_point start = Clock::now();
    checkBeforeWork(config, options);
    Progress& progress = progressOf(options);
    const bool reporting = config.report.any();
    report::Report report = startReport(config, options);

    const ir::Model original = ir::load(config.model);
    checkExternalFiles(config, options);
    const RunData data = readData(config, original);
    noteMadeSamples(config, data, report);
    progress.step(0);

    ir::Model model = original.clone();
    PassRunner runner(config, data.calibration ? &*data.calibration : nullptr,
                      runnerOptions(config, options, original, reporting ? RowTotals::count : RowTotals::skip),
                      progress);
    if (reporting) {
        report.original = modelRecord(model, *runner.views());
        addFiles(*report.original, config.model);
        addDataRecords(config, report);
    }
    report.passes = runPasses(runner, model, config);
    if (reporting) report.compressed = modelRecord(model, *runner.views());

    StagedOutput staged(config.output);
    ir::SaveOptions saveOptions;
    if (config.weights == WeightStorage::external) saveOptions.externalData = ir::ExternalData::always;
    const ir::SaveResult saved = ir::save(model, staged.path(), saveOptions);
    model = ir::Model();
    const VerifiedModel verified = verifyWrittenModel(staged.path(), config.output, original);
    progress.step(0);
    if (!verified.notRun.empty())
        warn(report, fmt::format("the output was checked but not run: {}", verified.notRun.front()));

    if (wantsEvaluation(config) && verified.notRun.empty()) {
        report.evaluation = evaluate(original, verified.model, data, config, progress);
        requireMetrics(config.evaluation.metrics, *report.evaluation);
    }
    report.constraints = checkConstraints(config.constraints, {filesBytes(config.model), saved.fileBytes},
                                          report.evaluation ? &*report.evaluation : nullptr);
    staged.commit(saved.files);

    if (config.output != "-")
        log::info("{}: {}, {} of {}", config.output, report::bytesText(saved.fileBytes),
                  report::shareText(static_cast<double>(saved.fileBytes),
                                    static_cast<double>(filesBytes(config.model))),
                  config.model);
    warnWhenLarger(report, filesBytes(config.model), saved.fileBytes);
    warnWhenSlower(report);
    report.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    report.peakMemoryBytes = measure::peakMemoryBytes();
    if (reporting) {
        if (config.output != "-") addFiles(*report.compressed, config.output);
        report.machine = measure::describeMachine();
        writeReports(config.report, report);
    }
    return report;
}

report::Report plan(const Config& config, const RunOptions& options) {
    const Clock::time_point start = Clock::now();
    requireModel(config);
    report::Report report = startReport(config, options);
    const ir::Model original = ir::load(config.model);
    const RunData data = readData(config, original);
    noteMadeSamples(config, data, report);
    ir::Model model = original.clone();
    PassRunnerOptions passOptions;
    passOptions.original = &original;
    passOptions.totals = RowTotals::count;
    PassRunner runner(config, data.calibration ? &*data.calibration : nullptr, passOptions,
                      progressOf(options));
    report.original = modelRecord(model, *runner.views());
    report.original->file.path = config.model;
    report.original->file.fileBytes = filesBytes(config.model);
    report.passes = runPasses(runner, model, config);
    report.compressed = modelRecord(model, *runner.views());
    report.compressed->file.path = config.output;
    report.compressed->file.fileBytes = predictedFileBytes(model);
    report.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    report.machine = measure::describeMachine();
    // What a real run adds on top of the passes: the output is mapped, and packed once more to be run.
    report.peakMemoryBytes = measure::peakMemoryBytes() + 2 * report.compressed->file.fileBytes;
    return report;
}

bool constraintMissed(const report::Report& report) {
    return std::any_of(
        report.constraints.begin(), report.constraints.end(),
        [](const report::ConstraintRow& row) { return row.outcome != report::ConstraintOutcome::met; });
}

std::vector<fs::path> inputFiles(const Config& config) {
    std::vector<fs::path> files = {config.model};
    for (const fs::path& file : externalFiles(config.model)) files.push_back(file);
    for (const std::string& file : {config.calibration.file, config.evaluation.file})
        if (!file.empty()) files.emplace_back(file);
    return files;
}

}  // namespace tcompress::pipeline
