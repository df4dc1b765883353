#include "passes/quantize/table/row_usage.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/calibration/collector.h"
#include "lib/calibration/token_counts.h"
#include "lib/data/split.h"

namespace tcompress::passes {
namespace {

struct Smoothing {
    double reach = 1;        ///< ρ
    double pseudoCount = 1;  ///< m
};

constexpr double kReaches[] = {1.1, 1.3, 2.0, 4.0, 1e9};
/// Keeps rows far from all that was seen from having no probability at all.
constexpr double kSmallestMean = 1e-6;

/// Share of the samples that the smoothing is chosen on.
constexpr double kHeldBack = 0.25;

std::vector<double> usage(const std::vector<double>& counts, Smoothing smoothing) {
    const auto n = static_cast<double>(counts.size());
    std::vector<double> before(counts.size() + 1, 0.0);
    std::partial_sum(counts.begin(), counts.end(), before.begin() + 1);
    std::vector<double> prior;
    double priorSum = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        const double rank = static_cast<double>(i) + 1;
        const auto begin = static_cast<std::size_t>(std::floor(rank / smoothing.reach));
        const auto end = static_cast<std::size_t>(std::min(n, std::ceil(rank * smoothing.reach)));
        prior.push_back((before[end] - before[begin]) / static_cast<double>(end - begin) + kSmallestMean);
        priorSum += prior.back();
    }
    const double all = before.back() + smoothing.pseudoCount;
    std::vector<double> result;
    for (std::size_t i = 0; i < counts.size(); ++i)
        result.push_back((counts[i] + smoothing.pseudoCount * prior[i] / priorSum) / all);
    return result;
}

/// Look-ups of each row; padding does not count.
std::vector<double> counted(const ir::Model& model, const pipeline::PassContext& context,
                            const TargetWeight& weight, const data::Dataset& samples) {
    const std::int64_t rows = weight.constant->constant()->shape()[0];
    calibration::Collector collector(model);
    std::vector<const calibration::TokenCounts*> counts;
    for (const analysis::Site* site : weight.sites)
        counts.push_back(&collector.add<calibration::TokenCounts>(calibration::Source(site->input)));
    context.collect(collector, samples);
    std::vector<double> result(static_cast<std::size_t>(rows), 0.0);
    for (const calibration::TokenCounts* seen : counts)
        for (const auto& [id, count] : seen->result()) {
            const std::int64_t row = id < 0 ? id + rows : id;
            if (row >= 0 && row < rows) result[static_cast<std::size_t>(row)] += static_cast<double>(count);
        }
    return result;
}

}  // namespace

std::vector<double> smoothedUsage(const std::vector<double>& counts, const std::vector<double>& heldBack) {
    Smoothing best;
    double bestLikelihood = -HUGE_VAL;
    for (const double reach : kReaches)
        for (double pseudoCount = 1; pseudoCount < 2e6; pseudoCount *= 4) {
            const std::vector<double> tried = usage(counts, {reach, pseudoCount});
            double likelihood = 0;
            for (std::size_t i = 0; i < tried.size(); ++i) likelihood += heldBack[i] * std::log(tried[i]);
            if (likelihood > bestLikelihood) {
                bestLikelihood = likelihood;
                best = {reach, pseudoCount};
            }
        }
    std::vector<double> all = counts;
    for (std::size_t i = 0; i < all.size(); ++i) all[i] += heldBack[i];
    return usage(all, best);
}

std::vector<double> tableUsage(const ir::Model& model, const pipeline::PassContext& context,
                               const std::string& pass, const TargetWeight& weight,
                               pipeline::PassReport& report) {
    if (!context.hasCalibration()) {
        const auto rows = static_cast<std::size_t>(weight.constant->constant()->shape()[0]);
        report.notes.push_back(
            fmt::format("'{}': no calibration data, so all {} rows count alike", weight.name(), rows));
        return std::vector<double>(rows, 1.0 / static_cast<double>(rows));
    }
    const data::Split split = data::split(context.givenCalibration(pass, "rows are counted"), kHeldBack);
    return smoothedUsage(counted(model, context, weight, split.fit),
                         counted(model, context, weight, split.heldBack));
}

}  // namespace tcompress::passes
