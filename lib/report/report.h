#pragma once
// What a run did and what came of it, as plain data that the pipeline and the commands fill, and its two
// written forms: JSON (with a published schema) and Markdown. Everything optional is absent from both when it
// was not measured.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lib/analysis/cost.h"
#include "lib/measure/evaluate.h"
#include "lib/measure/machine.h"

namespace tcompress::report {

/// Goes up when a key changes its meaning or goes away; new optional keys do not raise it.
inline constexpr int schemaVersion = 1;

/// A file that went in or came out.
struct FileRecord {
    std::string path;
    std::string sha256;           ///< of the model file itself; empty when it was not hashed
    std::uint64_t fileBytes = 0;  ///< model file plus its external data
};

struct ModelRecord {
    FileRecord file;
    std::vector<FileRecord> externalData;
    std::uint64_t constantBytes = 0;  ///< constant data in memory, shared data counted once
    std::int64_t nodes = 0;
    std::int64_t opset = 0;
    std::optional<analysis::ModelCost> cost;
};

struct ChangedSite {
    std::string site;
    std::string change;
    std::optional<double> error;  ///< relative error of the site's weights or outputs
};
struct SkippedSite {
    std::string site;
    std::string reason;
};

/// Totals of a model at one point of the pipeline.
struct Totals {
    std::int64_t bytes = 0;
    std::int64_t parameters = 0;
    std::int64_t macs = 0;
};

struct PassRow {
    std::string type;
    std::string method;       ///< empty when the family has one method
    std::string optionsJson;  ///< resolved options, a JSON object
    double seconds = 0;
    std::optional<Totals> before, after;
    std::vector<ChangedSite> changed;
    std::vector<SkippedSite> skipped;
    std::vector<std::string> notes;
};

enum class ConstraintOutcome { met, missed, notMeasured };

struct ConstraintRow {
    std::string name;  ///< "max_accuracy_drop", "max_size_ratio", "min_speedup"
    double limit = 0;
    std::optional<double> actual;
    ConstraintOutcome outcome = ConstraintOutcome::notMeasured;
    std::string note;  ///< what `actual` is, or why it could not be measured
};

struct Report {
    std::string toolVersion;
    std::string command;     ///< as it was typed
    std::string configJson;  ///< resolved pipeline config, a JSON object; empty when there is none
    std::optional<std::uint64_t> seed;
    int threads = 0;
    double seconds = 0;  ///< wall clock of the whole command
    std::uint64_t peakMemoryBytes = 0;
    std::optional<ModelRecord> original, compressed;
    std::vector<FileRecord> data;  ///< calibration and evaluation files
    std::vector<PassRow> passes;
    std::optional<measure::Evaluation> evaluation;
    std::vector<ConstraintRow> constraints;
    measure::Machine machine;
    std::vector<std::string> warnings;
};

/// Pretty-printed, ends in a newline. Numbers that are not finite are null.
std::string toJson(const Report& report);
/// Tables for people, GitHub flavour.
std::string toMarkdown(const Report& report);
/// JSON Schema (draft 2020-12) of toJson's output: configs/schema/report.schema.json.
std::string jsonSchema();

}  // namespace tcompress::report
