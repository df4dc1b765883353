#include "lib/pipeline/constraint_check.h"

#include <fmt/core.h>

namespace tcompress::pipeline {

namespace {

enum class Bound { atMost, atLeast };

report::ConstraintRow row(const char* name, double limit, std::optional<double> actual, Bound bound,
                          std::string note) {
    report::ConstraintRow result{name, limit, actual, report::ConstraintOutcome::notMeasured,
                                 std::move(note)};
    if (actual) {
        // Written so that a figure that is not a number counts as missed.
        const bool met = bound == Bound::atMost ? *actual <= limit : *actual >= limit;
        result.outcome = met ? report::ConstraintOutcome::met : report::ConstraintOutcome::missed;
    }
    return result;
}

}  // namespace

std::vector<report::ConstraintRow> checkConstraints(const Constraints& constraints, FileSizes sizes,
                                                    const measure::Evaluation* evaluation) {
    std::vector<report::ConstraintRow> rows;
    if (constraints.maxAccuracyDrop) {
        const std::optional<double> drop =
            evaluation == nullptr ? std::nullopt : measure::accuracyDrop(*evaluation);
        rows.push_back(row("max_accuracy_drop", *constraints.maxAccuracyDrop, drop, Bound::atMost,
                           drop ? "accuracy of the original minus accuracy of the output, as a share"
                                : "there are no labelled evaluation data"));
    }
    if (constraints.maxSizeRatio)
        rows.push_back(
            row("max_size_ratio", *constraints.maxSizeRatio,
                static_cast<double>(sizes.compressedBytes) / static_cast<double>(sizes.originalBytes),
                Bound::atMost, "bytes of the output's files divided by those of the input's"));
    if (constraints.minSpeedup) {
        const bool measured = evaluation != nullptr && evaluation->latency.has_value();
        rows.push_back(
            row("min_speedup", *constraints.minSpeedup,
                measured ? std::optional<double>(evaluation->latency->speedup) : std::nullopt, Bound::atLeast,
                measured ? "latency of the original divided by the output's, in this program's executor"
                         : "latency was not measured"));
    }
    return rows;
}

}  // namespace tcompress::pipeline
