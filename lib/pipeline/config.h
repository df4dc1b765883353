#pragma once
// The pipeline file, checked whole before any model is loaded: JSON in, a Config of passes that are made and
// ready out. What the command line says is laid over the file first, so that both are checked by the same
// declarations (config_tables.h). Problems are told all at once, each with its place: "recipe.json:
// /passes/0/ratio: …" or "--seed: …".

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/measure/evaluate.h"
#include "lib/pipeline/pass_step.h"

namespace tcompress::pipeline {

inline constexpr std::int64_t kConfigVersion = 1;

/// Samples to calibrate on: a file, or random inputs when the user asks for them.
struct CalibrationSource {
    std::string file;
    std::int64_t samples = 0;    ///< at most; 0 = all
    std::int64_t synthetic = 0;  ///< this many random samples instead of a file
    std::int64_t enlarge = 1;    ///< samples for each one given (data::Enlargement)
};

struct EvaluationSource {
    std::string file;
    std::int64_t samples = 0;  ///< at most; 0 = all
    std::int64_t batchSize = 16;
    /// Metrics that must be in the report; asking for one that the data cannot give is an error.
    std::vector<std::string> metrics;
};

struct Constraints {
    std::optional<double> maxAccuracyDrop, maxSizeRatio, minSpeedup;
    bool any() const { return maxAccuracyDrop || maxSizeRatio || minSpeedup; }
};

enum class LatencyMeasurement { automatic, always, never };  ///< automatic: when there are evaluation data

struct ReportSettings {
    std::vector<std::string> json, markdown;  ///< files; "-" is standard output
    LatencyMeasurement latency = LatencyMeasurement::automatic;
    std::int64_t latencyRuns = 30;
    measure::EnergyMethod energy = measure::EnergyMethod::automatic;
    double gridGramsPerKwh = 480.0;
    bool any() const { return !json.empty() || !markdown.empty(); }
};

enum class WeightStorage { automatic, external };

struct Settings {
    std::int64_t version = kConfigVersion;
    std::string description;
    std::int64_t seed = 0;
    std::int64_t threads = 0;  ///< 0 = as many as there are processors
    std::string model, output;
    bool allowEmpty = false;     ///< no pass has to change anything
    bool checkNumerics = false;  ///< after each pass run the model and refuse outputs that are not finite
    WeightStorage weights = WeightStorage::automatic;
    std::string cacheDir;                ///< folder where statistics are kept; empty: nowhere
    std::string memoryLimit = "256MiB";  ///< for what calibration gathers (calibration::Resources)
};

struct Config : Settings {
    CalibrationSource calibration;
    EvaluationSource evaluation;
    std::vector<PassStep> passes;
    Constraints constraints;
    ReportSettings report;
};

/// One setting of the command line: the JSON pointer of what it sets, its value as JSON text, and what
/// messages call it.
struct Override {
    std::string pointer;
    std::string valueJson;
    std::string label;
};

/// Everything a config is made from, in rising order of precedence.
struct ConfigSources {
    std::string text;                    ///< of the pipeline file; empty when there is none
    std::string origin;                  ///< name of the file in messages
    std::filesystem::path folder;        ///< relative paths in `text` are relative to it
    std::vector<std::string> oneLiners;  ///< passes added behind those of the file
    std::vector<Override> overrides;
};

/// Throws ConfigError with every problem, one a line.
Config resolveConfig(const ConfigSources& sources, std::span<const PassInfo> registry);

/// The config as a pipeline file with every setting spelled out, pretty-printed: what reports embed and what
/// replays a run.
std::string configJson(const Config& config);

/// JSON Schema (draft 2020-12) of the pipeline file, pretty-printed.
std::string configSchema(std::span<const PassInfo> registry);

}  // namespace tcompress::pipeline
