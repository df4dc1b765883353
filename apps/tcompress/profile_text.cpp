#include "apps/tcompress/profile_text.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "apps/tcompress/tables.h"
#include "lib/exec/fitting_executor.h"
#include "lib/exec/profile.h"
#include "lib/support/parallel.h"

namespace tcompress::cli {

namespace {

constexpr std::int64_t kRuns = 20;

std::string timesTable(const exec::ModelProfile& profile) {
    std::vector<std::vector<std::string>> rows{{"operator", "kernel", "calls", "ms", "share"}};
    const auto runs = static_cast<double>(profile.runs);
    double told = 0;
    for (const exec::OperatorTime& row : profile.operators) {
        told += row.seconds;
        rows.push_back({row.opType, row.kernel.empty() ? "-" : row.kernel,
                        fmt::format("{}", row.calls / profile.runs),
                        fmt::format("{:.3f}", row.seconds * 1e3 / runs),
                        fmt::format("{:.1f} %", 100 * row.seconds / profile.seconds)});
    }
    const double rest = std::max(0.0, profile.seconds - told);
    rows.push_back({"between operators", "-", "", fmt::format("{:.3f}", rest * 1e3 / runs),
                    fmt::format("{:.1f} %", 100 * rest / profile.seconds)});
    rows.push_back({"all", "", "", fmt::format("{:.3f}", profile.seconds * 1e3 / runs), "100.0 %"});
    return renderTable(rows, {Align::left, Align::left, Align::right, Align::right, Align::right});
}

std::string refusalsTable(const exec::ModelProfile& profile) {
    if (profile.refusals.empty()) return "no kernel refused\n";
    std::vector<std::vector<std::string>> rows{{"operator", "kernel that refused", "calls", "reason"}};
    for (const exec::KernelRefusal& row : profile.refusals)
        rows.push_back({row.opType, row.kernel, fmt::format("{}", row.calls / profile.runs), row.reason});
    return renderTable(rows, {Align::left, Align::left, Align::right, Align::left});
}

}  // namespace

std::string profileText(const ir::Model& model, const std::optional<data::Dataset>& dataset,
                        std::int64_t batch) {
    if (!exec::weightsFit(model)) return "not profiled: the weights do not fit into the free memory\n";
    const std::int64_t fixed = data::fixedBatchSize(model);
    const std::int64_t wanted = fixed > 0 ? fixed : batch;
    const bool enough = dataset && (fixed <= 0 || dataset->sampleCount() >= fixed);
    const data::Dataset samples =
        enough ? data::fitToModel(*dataset, model) : data::syntheticDataset(model, wanted, 0);
    const std::int64_t rows = std::min(wanted, samples.sampleCount());
    const exec::ModelProfile profile = exec::profileModel(model, samples.rows(0, rows), kRuns);
    return fmt::format(
        "time by operator: {} runs on {}, batch {}, {} threads; calls and milliseconds are of one "
        "run\n\n{}\n{}",
        kRuns, enough ? "the first samples" : "random inputs", rows, threadCount(), timesTable(profile),
        refusalsTable(profile));
}

}  // namespace tcompress::cli
