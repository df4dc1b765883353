#include "lib/measure/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "lib/support/check.h"
#include "lib/support/random.h"

namespace tcompress::measure {
namespace {

constexpr double notANumber = std::numeric_limits<double>::quiet_NaN();

}  // namespace

double quantile(std::vector<double> values, double q) {
    TCOMPRESS_CHECK(!values.empty(), "quantile of nothing");
    std::sort(values.begin(), values.end());
    const double position = q * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (position - static_cast<double>(below)) * (values[above] - values[below]);
}

Estimate wilson(std::int64_t successes, std::int64_t trials) {
    if (trials == 0) return {};
    constexpr double z = 1.959963984540054;  // 97.5 % quantile of the standard normal
    const auto n = static_cast<double>(trials);
    const double share = static_cast<double>(successes) / n;
    const double centre = (share + z * z / (2 * n)) / (1 + z * z / n);
    const double half = z / (1 + z * z / n) * std::sqrt(share * (1 - share) / n + z * z / (4 * n * n));
    return {share, std::max(0.0, centre - half), std::min(1.0, centre + half), trials};
}

Estimate bootstrap(std::int64_t count, const Statistic& statistic, const Bootstrap& options) {
    if (count == 0) return {};
    std::vector<std::int32_t> samples(static_cast<std::size_t>(count));
    std::iota(samples.begin(), samples.end(), 0);
    Estimate estimate{statistic(samples), 0, 0, count};
    estimate.low = estimate.high = estimate.value;
    if (options.resamples <= 0) return estimate;

    Random random(options.seed, "measure/bootstrap");
    std::vector<double> values;
    values.reserve(static_cast<std::size_t>(options.resamples));
    for (std::int64_t i = 0; i < options.resamples; ++i) {
        for (std::int32_t& sample : samples)
            sample = static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(count)));
        values.push_back(statistic(samples));
    }
    if (!std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); })) {
        estimate.low = estimate.high = notANumber;
        return estimate;
    }
    estimate.low = quantile(values, 0.025);
    estimate.high = quantile(std::move(values), 0.975);
    return estimate;
}

Estimate bootstrapRatio(std::span<const double> sums, std::span<const double> weights,
                        const Bootstrap& options) {
    TCOMPRESS_CHECK(sums.size() == weights.size(), "one weight a sum");
    return bootstrap(
        static_cast<std::int64_t>(sums.size()),
        [&](std::span<const std::int32_t> samples) {
            double sum = 0, weight = 0;
            for (const std::int32_t sample : samples) {
                sum += sums[static_cast<std::size_t>(sample)];
                weight += weights[static_cast<std::size_t>(sample)];
            }
            // A resample may hold only samples without rows; it says nothing, and a mean over nothing is 0
            // here.
            return weight > 0 ? sum / weight : 0.0;
        },
        options);
}

Estimate bootstrapMean(std::span<const double> values, const Bootstrap& options) {
    return bootstrapRatio(values, std::vector<double>(values.size(), 1.0), options);
}

double mcnemarPValue(std::int64_t first, std::int64_t second) {
    const std::int64_t total = first + second;
    const std::int64_t smaller = std::min(first, second);
    if (total == 0 || 2 * smaller == total) return 1.0;
    // 2 · P(X ≤ smaller) for X ~ Binomial(total, 1/2), summed in logarithms because 2^total overflows.
    const auto logChoose = [](double n, double k) {
        return std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1);
    };
    double tail = 0;
    for (std::int64_t k = 0; k <= smaller; ++k)
        tail += std::exp(logChoose(static_cast<double>(total), static_cast<double>(k)) -
                         static_cast<double>(total) * std::log(2.0));
    return std::min(1.0, 2 * tail);
}

}  // namespace tcompress::measure
