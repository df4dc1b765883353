#include "lib/measure/latency.h"

#include <chrono>
#include <vector>

#include "lib/measure/statistics.h"
#include "lib/support/parallel.h"

namespace tcompress::measure {
namespace {

double secondsOf(const std::function<void()>& run) {
    const auto start = std::chrono::steady_clock::now();
    run();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

LatencyResult summary(const std::vector<double>& seconds, const LatencyPlan& plan) {
    return {quantile(seconds, 0.5), quantile(seconds, 0.95), plan.runs, plan.warmupRuns, plan.batch,
            threadCount()};
}

}  // namespace

LatencyComparison timeInTurns(const std::function<void()>& original, const std::function<void()>& compressed,
                              const LatencyPlan& plan) {
    LatencyComparison result;
    if (plan.runs <= 0) return result;
    for (std::int64_t i = 0; i < plan.warmupRuns; ++i) {
        original();
        if (compressed) compressed();
    }
    std::vector<double> before, after, ratios;
    for (std::int64_t i = 0; i < plan.runs; ++i) {
        if (!compressed) {
            before.push_back(secondsOf(original));
            continue;
        }
        if (i % 2 == 0) {
            before.push_back(secondsOf(original));
            after.push_back(secondsOf(compressed));
        } else {
            after.push_back(secondsOf(compressed));
            before.push_back(secondsOf(original));
        }
        ratios.push_back(before.back() / after.back());
    }
    result.original = summary(before, plan);
    if (!compressed) return result;
    result.compressed = summary(after, plan);
    const Estimate speedup = bootstrap(plan.runs,
                                       [&](std::span<const std::int32_t> pairs) {
                                           std::vector<double> drawn;
                                           drawn.reserve(pairs.size());
                                           for (const std::int32_t pair : pairs)
                                               drawn.push_back(ratios[static_cast<std::size_t>(pair)]);
                                           return quantile(std::move(drawn), 0.5);
                                       },
                                       {plan.resamples, plan.seed});
    result.speedup = speedup.value;
    result.speedupLow = speedup.low;
    result.speedupHigh = speedup.high;
    return result;
}

}  // namespace tcompress::measure
