#pragma once
// Estimates with confidence intervals. The bootstrap draws from a stream of its own that starts afresh at
// every call: two calls with equal counts and seed draw the same samples, so that differences of models are
// paired.

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "lib/measure/evaluate.h"

namespace tcompress::measure {

/// Linear interpolation between order statistics (Hyndman and Fan 1996, type 7: numpy's default). `q` in [0,
/// 1]; `values` not empty.
double quantile(std::vector<double> values, double q);

/// Share successes/trials with Wilson's score interval at 95 %.
Estimate wilson(std::int64_t successes, std::int64_t trials);

struct Bootstrap {
    std::int64_t resamples = 2000;
    std::uint64_t seed = 42;
};

/// A statistic of a multiset of samples, given as indices.
using Statistic = std::function<double(std::span<const std::int32_t> samples)>;

/// The statistic of all `count` samples with its 95 % percentile interval. Not finite in, not finite out.
Estimate bootstrap(std::int64_t count, const Statistic& statistic, const Bootstrap& options);

/// Σ sums / Σ weights over samples (a mean over rows, where a sample has weights[i] rows).
Estimate bootstrapRatio(std::span<const double> sums, std::span<const double> weights,
                        const Bootstrap& options);
/// Mean over samples.
Estimate bootstrapMean(std::span<const double> values, const Bootstrap& options);

/// Two-sided exact p-value that of `first + second` disagreements, each equally likely to fall on either
/// side, the split is at least as uneven as this one.
double mcnemarPValue(std::int64_t first, std::int64_t second);

}  // namespace tcompress::measure
