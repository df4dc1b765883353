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
    double discount = 0.8;   ///< δ
    std::size_t classes = 1; ///< by length
};

constexpr double kReaches[] = {1.03, 1.05, 1.1, 1.3, 2.0, 1e9};
constexpr double kDiscounts[] = {0.5, 0.6, 0.7, 0.8, 0.9, 0.95};
constexpr std::size_t kClasses = 8;
/// Keeps rows far from all that was seen from having no probability at all.
constexpr double kSmallestMean = 1e-6;

/// Share of the samples that the smoothing is chosen on.
constexpr double kHeldBack = 0.25;

/// Rows [begin, end): those of row i's rank times or divided by `reach`.
struct Window {
    std::size_t begin = 0, end = 0;
};

Window windowOf(std::size_t i, std::size_t rows, double reach) {
    const double rank = static_cast<double>(i) + 1;
    const double end = std::min(static_cast<double>(rows), std::ceil(rank * reach));
    return {static_cast<std::size_t>(std::floor(rank / reach)), static_cast<std::size_t>(end)};
}

class Sums {
  public:
    explicit Sums(std::span<const double> values) : before_(values.size() + 1, 0.0) {
        std::partial_sum(values.begin(), values.end(), before_.begin() + 1);
    }
    double of(const Window& window) const { return before_[window.end] - before_[window.begin]; }
    double all() const { return before_.back(); }

  private:
    std::vector<double> before_;
};

/// Number of the class of each row: classes of as many rows each, the shortest rows first.
std::vector<std::size_t> classesByLength(std::span<const double> energies) {
    std::vector<std::size_t> order(energies.size()), result(energies.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return energies[a] < energies[b]; });
    for (std::size_t place = 0; place < order.size(); ++place) result[order[place]] = place * kClasses / order.size();
    return result;
}

/// What rows of similar rank were discounted, on average: where what was discounted goes.
std::vector<double> meansByRank(const Sums& discounted, std::size_t rows, double reach) {
    std::vector<double> means(rows);
    for (std::size_t i = 0; i < rows; ++i) {
        const Window window = windowOf(i, rows, reach);
        means[i] = discounted.of(window) / static_cast<double>(window.end - window.begin) + kSmallestMean;
    }
    return means;
}

/// Means are multiplied with what their class has within a wider window, by what it should have there; both with
/// one token more.
void favourClasses(std::span<const double> discounted, std::span<const std::size_t> classOf, double reach,
                   std::vector<double>& means) {
    std::vector<double> factors(means.size());
    for (std::size_t k = 0; k < kClasses; ++k) {
        std::vector<double> has(means.size(), 0.0), should(means.size(), 0.0);
        for (std::size_t i = 0; i < means.size(); ++i)
            if (classOf[i] == k) {
                has[i] = discounted[i];
                should[i] = means[i];
            }
        const Sums hasSums(has), shouldSums(should);
        for (std::size_t i = 0; i < means.size(); ++i)
            if (classOf[i] == k) {
                const Window window = windowOf(i, means.size(), reach * reach);
                factors[i] = (hasSums.of(window) + 1) / (shouldSums.of(window) + 1);
            }
    }
    for (std::size_t i = 0; i < means.size(); ++i) means[i] *= factors[i];
}

std::vector<double> usage(const std::vector<double>& counts, std::span<const std::size_t> classOf,
                          const Smoothing& smoothing) {
    std::vector<double> discounted;
    for (const double count : counts) discounted.push_back(std::min(count, smoothing.discount));
    const Sums sums(discounted);
    std::vector<double> means = meansByRank(sums, counts.size(), smoothing.reach);
    if (smoothing.classes > 1) favourClasses(discounted, classOf, smoothing.reach, means);
    // One token more than was seen, so that there is something to share out in any case.
    const double factor = (sums.all() + 1) / std::accumulate(means.begin(), means.end(), 0.0);
    const double all = std::accumulate(counts.begin(), counts.end(), 1.0);
    std::vector<double> result;
    for (std::size_t i = 0; i < counts.size(); ++i)
        result.push_back((counts[i] - discounted[i] + factor * means[i]) / all);
    return result;
}

}  // namespace

std::vector<double> smoothedUsage(const std::vector<double>& counts, const std::vector<double>& heldBack,
                                  std::span<const double> energies) {
    const std::vector<std::size_t> classOf = classesByLength(energies);
    Smoothing best;
    double bestLikelihood = -HUGE_VAL;
    for (const std::size_t classes : {std::size_t{1}, kClasses})
        for (const double reach : kReaches)
            for (const double discount : kDiscounts) {
                const std::vector<double> tried = usage(counts, classOf, {reach, discount, classes});
                double likelihood = 0;
                for (std::size_t i = 0; i < tried.size(); ++i) likelihood += heldBack[i] * std::log(tried[i]);
                if (likelihood > bestLikelihood) {
                    bestLikelihood = likelihood;
                    best = {reach, discount, classes};
                }
            }
    std::vector<double> all = counts;
    for (std::size_t i = 0; i < all.size(); ++i) all[i] += heldBack[i];
    return usage(all, classOf, best);
}

std::vector<double> rowEnergies(const Tensor& table) {
    const auto values = table.data<float>();
    const auto length = static_cast<std::size_t>(table.shape()[1]);
    std::vector<double> result(static_cast<std::size_t>(table.shape()[0]), 0.0);
    for (std::size_t i = 0; i < result.size(); ++i)
        for (const float value : values.subspan(i * length, length)) result[i] += static_cast<double>(value) * value;
    for (double& energy : result)
        if (std::isnan(energy)) energy = HUGE_VAL;
    return result;
}

std::vector<double> rowCounts(const ir::Model& model, const pipeline::PassContext& context,
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

std::vector<double> tableUsage(const ir::Model& model, const pipeline::PassContext& context,
                               const TargetWeight& weight, const data::Dataset& samples) {
    const data::Split split = data::split(samples, kHeldBack);
    return smoothedUsage(rowCounts(model, context, weight, split.fit),
                         rowCounts(model, context, weight, split.heldBack),
                         rowEnergies(*weight.constant->constant()));
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
    return tableUsage(model, context, weight, context.givenCalibration(pass, "rows are counted"));
}

}  // namespace tcompress::passes
