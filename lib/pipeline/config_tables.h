#pragma once
// The settings of a pipeline file, each said once: parsing, the schema and the resolved config come from
// these tables.

#include "lib/pipeline/config.h"

namespace tcompress::pipeline {

inline OptionTable<Settings> settingsTable() {
    OptionTable<Settings> table;
    table.option("version", &Settings::version, "version of the pipeline file's format")
        .range(1, kConfigVersion);
    table.option("description", &Settings::description, "what the pipeline is for");
    table.option("seed", &Settings::seed, "seed of every random choice").range(0, 9007199254740991.0);
    table
        .option("threads", &Settings::threads,
                "threads to use, 0 for every processor; the output does not depend on it")
        .range(0, 4096);
    table.option("model", &Settings::model, "ONNX file to compress");
    table.option("output", &Settings::output, "ONNX file to write");
    table.option("allow_empty", &Settings::allowEmpty, "a pass that finds nothing to change is no error");
    table.option("check_numerics", &Settings::checkNumerics,
                 "run the model after each pass and refuse outputs that are not finite");
    table.choice<WeightStorage>(
        "weights", &Settings::weights,
        {{"automatic", WeightStorage::automatic}, {"external", WeightStorage::external}},
        "where weights are written: in the model file unless it passes 1.9 GiB, or always beside it");
    table.option("cache_dir", &Settings::cacheDir,
                 "folder where statistics of calibration data are kept and taken from when the same model, data and "
                 "request come again; empty for none");
    table.option("memory_limit", &Settings::memoryLimit,
                 "memory for what calibration gathers, as in 300MB or 2GiB: activations kept from block to block (more goes "
                 "to a temporary file) and sums of gradients (more takes another run)");
    return table;
}

inline OptionTable<CalibrationSource> calibrationTable() {
    OptionTable<CalibrationSource> table;
    table.option("file", &CalibrationSource::file, "npz file with one array per model input");
    table.option("num_samples", &CalibrationSource::samples, "samples to use at most, 0 for all")
        .range(0, 1e12);
    table.option("synthetic", &CalibrationSource::synthetic, "use this many random samples instead of a file")
        .range(0, 1e6);
    table
        .option("enlarge", &CalibrationSource::enlarge,
                "samples to have for each one given: the others are made of it by splicing sequences and "
                "replacing tokens; 1 for the data as they are")
        .range(1, 1000);
    return table;
}

inline OptionTable<EvaluationSource> evaluationTable() {
    OptionTable<EvaluationSource> table;
    table.option("file", &EvaluationSource::file,
                 "npz file with one array per model input and, if there are any, labels");
    table.option("num_samples", &EvaluationSource::samples, "samples to use at most, 0 for all")
        .range(0, 1e12);
    table.option("batch_size", &EvaluationSource::batchSize, "samples per run").range(1, 65536);
    table.option("metrics", &EvaluationSource::metrics, "metrics the report must have");
    return table;
}

inline OptionTable<Constraints> constraintsTable() {
    OptionTable<Constraints> table;
    table
        .option("max_accuracy_drop", &Constraints::maxAccuracyDrop,
                "largest loss of accuracy on the evaluation data, as a share: 0.01 is one point")
        .range(0, 1);
    table
        .option("max_size_ratio", &Constraints::maxSizeRatio,
                "largest size of the output as a share of the input's")
        .range(0, 1e6);
    table
        .option("min_speedup", &Constraints::minSpeedup,
                "least latency of the original divided by the output's")
        .range(0, 1e6);
    return table;
}

inline OptionTable<ReportSettings> reportTable() {
    OptionTable<ReportSettings> table;
    table.option("json", &ReportSettings::json, "JSON report to write");
    table.option("markdown", &ReportSettings::markdown, "Markdown report to write");
    table.choice<LatencyMeasurement>("latency", &ReportSettings::latency,
                                     {{"auto", LatencyMeasurement::automatic},
                                      {"always", LatencyMeasurement::always},
                                      {"never", LatencyMeasurement::never}},
                                     "whether latency is measured; auto: when there are evaluation data");
    table.option("latency_runs", &ReportSettings::latencyRuns, "timed runs of each model").range(1, 100000);
    table.choice<measure::EnergyMethod>(
        "energy", &ReportSettings::energy,
        {{"auto", measure::EnergyMethod::automatic},
         {"measured", measure::EnergyMethod::measured},
         {"modelled", measure::EnergyMethod::modelled},
         {"off", measure::EnergyMethod::none}},
        "energy per inference; auto: measured where the machine's counters can be read, "
        "else modelled, and labelled so");
    table
        .option("grid_grams_per_kwh", &ReportSettings::gridGramsPerKwh,
                "carbon intensity of the electricity, g CO2e per kWh")
        .range(0, 1e5);
    return table;
}

/// Keys of the whole file that hold objects or lists.
inline const std::vector<std::string>& sectionNames() {
    static const std::vector<std::string> names = {"$schema", "data", "passes", "constraints", "report"};
    return names;
}

}  // namespace tcompress::pipeline
