#pragma once
// Wall-clock time of a run. Two models are timed in turns, so that what the machine does meanwhile
// (frequency, other processes) hits both alike; the order within a pair alternates.

#include <cstdint>
#include <functional>

#include "lib/measure/evaluate.h"

namespace tcompress::measure {

struct LatencyPlan {
    std::int64_t runs = 30;
    std::int64_t warmupRuns = 5;
    std::int64_t batch = 1;
    std::int64_t resamples = 2000;
    std::uint64_t seed = 42;
};

/// `compressed` may be empty: then one model is timed. Each call is one run of a batch.
LatencyComparison timeInTurns(const std::function<void()>& original, const std::function<void()>& compressed,
                              const LatencyPlan& plan);

}  // namespace tcompress::measure
