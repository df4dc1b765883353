#pragma once
// What came of a batch: one row a job, as JSON, Markdown and CSV.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/tcompress/batch/jobs.h"

namespace tcompress::cli {

enum class JobStatus { done, upToDate, constraintMissed, failed };
std::string_view name(JobStatus status);

struct SummaryRow {
    std::string model, recipe;
    JobStatus status = JobStatus::failed;
    int exitCode = 0;
    std::string error;  ///< last line of the log of a job that failed
    std::string output;
    std::optional<double> originalBytes, bytes, parameters, macs, originalAccuracy, accuracy, cosine, speedup,
        seconds;
};

/// Reads the figures from the job's report (left empty where it has none) and the error from its log.
SummaryRow summarise(const Job& job, JobStatus status, int exitCode);

/// Writes summary.json, summary.md and summary.csv into the folder; returns the Markdown.
std::string writeSummary(const std::filesystem::path& folder, const std::vector<SummaryRow>& rows);

}  // namespace tcompress::cli
