#include "apps/tcompress/pipeline_options.h"

#include <fmt/core.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/tcompress/presets.h"
#include "lib/pipeline/json_text.h"
#include "lib/support/error.h"

namespace tcompress::cli {

namespace {

using nlohmann::json;

/// "constraints.max_size_ratio" or "/constraints/max_size_ratio" as a JSON pointer.
std::string toPointer(std::string key) {
    if (key.starts_with("/")) return key;
    for (char& c : key)
        if (c == '.') c = '/';
    return "/" + key;
}

/// What a user types as a value: JSON where it is JSON, else a text.
json toValue(const std::string& text) {
    const json value = json::parse(text, nullptr, false);
    return value.is_discarded() ? json(text) : value;
}

}  // namespace

void PipelineOptions::set(std::string pointer, std::string valueJson, std::string label) {
    overrides_.push_back({std::move(pointer), std::move(valueJson), std::move(label)});
}

void PipelineOptions::addText(OptionList& options, const std::string& name, const std::string& placeholder,
                              const std::string& pointer, const std::string& help) {
    options.value(
        name, placeholder,
        [this, pointer, name](const std::string& text) { set(pointer, json(text).dump(), name); }, help);
}

OptionDeclaration& PipelineOptions::addFlag(OptionList& options, const std::string& name, const std::string& pointer,
                                            const std::string& valueJson, const std::string& help) {
    return options.flag(
        name, [this, pointer, name, valueJson] { set(pointer, valueJson, name); }, help);
}

void PipelineOptions::addPipeline(OptionList& options) {
    options.group("Pipeline");
    options.value("-c,--config", "FILE", configFile_, "pipeline file; - reads standard input").repeat = Repeat::refused;
    OptionDeclaration& preset = options.value("--preset", "NAME", preset_, "ready pipeline (`tcompress presets` lists them)");
    preset.repeat = Repeat::refused;
    preset.excludes = "--config";
    options.values("-p,--pass", "PASS", passes_,
                   "pass to add behind those of the file: NAME[/METHOD][:KEY=VALUE,KEY=VALUE]");
    options.values(
        "--set", "KEY=VALUE", [this](const std::string& text) { addAssignment(text); },
        "any setting of the pipeline file, as in passes.0.ratio=0.3");
}

void PipelineOptions::addData(OptionList& options) {
    options.group("Data");
    addText(options, "--calibration", "FILE", "/data/calibration/file",
            "samples that passes decide on (.npz)");
    addText(options, "--calibration-samples", "N", "/data/calibration/num_samples",
            "use at most so many of them");
    addText(options, "--synthetic-calibration", "N", "/data/calibration/synthetic",
            "calibrate on so many random samples; the report says so");
    addText(options, "--evaluation", "FILE", "/data/evaluation/file",
            "samples, labelled or not, to compare both models on (.npz)");
    addText(options, "--evaluation-samples", "N", "/data/evaluation/num_samples",
            "use at most so many of them");
}

void PipelineOptions::addReport(OptionList& options) {
    options.group("Report");
    options.values(
        "--report", "FILE", [this](const std::string& file) { addReportFile(file); },
        "report to write, .json or .md; - is JSON on standard output");
    addFlag(options, "--latency", "/report/latency", "\"always\"",
            "measure latency even without evaluation data");
    addFlag(options, "--no-latency", "/report/latency", "\"never\"", "do not measure latency").excludes = "--latency";
    addText(options, "--latency-runs", "N", "/report/latency_runs",
            fmt::format("timed runs of each model; default {}", pipeline::ReportSettings{}.latencyRuns));
}

void PipelineOptions::addSettings(OptionList& options) {
    options.group("Settings");
    addText(options, "--seed", "N", "/seed",
            fmt::format("seed of every random choice; default {}", pipeline::Settings{}.seed));
    addText(options, "--max-accuracy-drop", "X", "/constraints/max_accuracy_drop",
            "largest loss of accuracy, as a share: 0.01 is one point");
    addText(options, "--max-size-ratio", "X", "/constraints/max_size_ratio",
            "largest size of the output as a share of the input's");
    addText(options, "--min-speedup", "X", "/constraints/min_speedup", "least speed-up over the input");
    addFlag(options, "--allow-empty", "/allow_empty", "true",
            "a pass that finds nothing to change is no error");
    addFlag(options, "--check-numerics", "/check_numerics", "true",
            "run the model after each pass and refuse outputs that are not finite");
    addText(options, "--cache-dir", "FOLDER", "/cache_dir",
            "keep statistics of calibration data here for the next run");
    addText(options, "--memory-limit", "SIZE", "/memory_limit",
            fmt::format("memory for what calibration gathers, not for the whole run: activations kept from block to block "
                        "(more goes to a temporary file) and sums of gradients (more takes another run), as in 300MB or 2GiB; "
                        "default {}",
                        pipeline::Settings{}.memoryLimit));
    addFlag(options, "--external-weights", "/weights", "\"external\"",
            "write weights to a file beside the model");
}

void PipelineOptions::addReportFile(const std::string& file) {
    const std::string extension = std::filesystem::path(file).extension().string();
    if (file == "-" || extension == ".json")
        jsonReports_.push_back(file);
    else if (extension == ".md" || extension == ".markdown")
        markdownReports_.push_back(file);
    else
        throw ConfigError(fmt::format("--report {}: the name must end in .json or .md", file));
}

void PipelineOptions::addAssignment(const std::string& text) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
        throw ConfigError(fmt::format("--set {}: must be KEY=VALUE", text));
    set(toPointer(text.substr(0, equals)), toValue(text.substr(equals + 1)).dump(), "--set " + text);
}

pipeline::ConfigSources PipelineOptions::sources() const {
    pipeline::ConfigSources sources;
    if (!configFile_.empty()) {
        sources.text = pipeline::readConfigText(configFile_);
        sources.origin = configFile_ == "-" ? "standard input" : configFile_;
        if (configFile_ != "-") sources.folder = std::filesystem::path(configFile_).parent_path();
        // parseJson names an empty text better than "no pipeline" would.
        if (sources.text.empty()) sources.text = " ";
    } else if (!preset_.empty()) {
        const Preset& preset = findPreset(preset_);
        sources.text = std::string(preset.text);
        sources.origin = fmt::format("preset {}", preset.name);
    }
    sources.oneLiners = passes_;
    sources.overrides = overrides_;
    if (!jsonReports_.empty())
        sources.overrides.push_back({"/report/json", json(jsonReports_).dump(), "--report"});
    if (!markdownReports_.empty())
        sources.overrides.push_back({"/report/markdown", json(markdownReports_).dump(), "--report"});
    return sources;
}

}  // namespace tcompress::cli
