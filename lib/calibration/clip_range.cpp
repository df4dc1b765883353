#include "lib/calibration/clip_range.h"

#include <algorithm>
#include <cmath>

#include "lib/support/check.h"

namespace tcompress::calibration {

namespace {

double largestAbsolute(const Histogram& histogram) {
    return std::max(std::fabs(static_cast<double>(histogram.minimum())),
                    std::fabs(static_cast<double>(histogram.maximum())));
}

/// The point below which `wanted` of the counted values lie; cell i starts at edge + i · width.
double quantile(const std::vector<std::uint64_t>& counts, double edge, double width, double wanted) {
    double below = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        const auto count = static_cast<double>(counts[i]);
        if (count > 0 && below + count >= wanted)
            return edge + width * (static_cast<double>(i) + std::max(0.0, wanted - below) / count);
        below += count;
    }
    return edge + width * static_cast<double>(counts.size());
}

ClipRange symmetric(double threshold) { return {-threshold, threshold}; }

ClipRange holdingZero(double low, double high) { return {std::min(low, 0.0), std::max(high, 0.0)}; }

/// A value of the histogram and how often it occurs.
struct Point {
    double value;
    double count;
};

std::vector<Point> points(const Histogram& histogram) {
    std::vector<Point> result;
    for (std::size_t i = 0; i < histogram.counts().size(); ++i)
        if (histogram.counts()[i] > 0)
            result.push_back({std::clamp(histogram.edge(i) + histogram.width() / 2,
                                         static_cast<double>(histogram.minimum()),
                                         static_cast<double>(histogram.maximum())),
                              static_cast<double>(histogram.counts()[i])});
    return result;
}

double squaredError(const std::vector<Point>& points, const ClipRange& range, std::int64_t steps) {
    const double scale = (range.high - range.low) / static_cast<double>(steps);
    if (scale <= 0) return std::numeric_limits<double>::infinity();
    // The grid has a point at 0, as a whole zero point makes it.
    const double origin = std::nearbyint(range.low / scale) * scale;
    double sum = 0;
    for (const Point& point : points) {
        const double step =
            std::clamp(std::nearbyint((point.value - origin) / scale), 0.0, static_cast<double>(steps));
        const double error = point.value - (origin + step * scale);
        sum += point.count * error * error;
    }
    return sum;
}

}  // namespace

ClipRange fullRange(const Histogram& histogram, RangeKind kind) {
    if (kind == RangeKind::symmetric) return symmetric(largestAbsolute(histogram));
    return holdingZero(histogram.minimum(), histogram.maximum());
}

ClipRange percentileRange(const Histogram& histogram, double share, RangeKind kind) {
    TCOMPRESS_CHECK(share > 0 && share <= 1, "a share of values to keep");
    const auto total = static_cast<double>(histogram.total());
    if (kind == RangeKind::symmetric) {
        double width = 0;
        const std::vector<std::uint64_t> counts = histogram.absoluteCounts(width);
        return symmetric(std::min(quantile(counts, 0, width, share * total), largestAbsolute(histogram)));
    }
    const auto at = [&](double part) {
        const double found = quantile(histogram.counts(), histogram.edge(0), histogram.width(), part * total);
        return std::clamp(found, static_cast<double>(histogram.minimum()),
                          static_cast<double>(histogram.maximum()));
    };
    if (share == 1) return fullRange(histogram, kind);
    return holdingZero(at((1 - share) / 2), at((1 + share) / 2));
}

ClipRange leastSquaresRange(const Histogram& histogram, RangeKind kind, std::int64_t steps) {
    constexpr int kSmallestPercent = 10;
    constexpr int kRounds = 2;
    const std::vector<Point> values = points(histogram);
    const ClipRange full = fullRange(histogram, kind);
    ClipRange best = full;
    double least = squaredError(values, best, steps);
    const auto consider = [&](const ClipRange& range) {
        const double error = squaredError(values, range, steps);
        if (error >= least) return;
        least = error;
        best = range;
    };
    for (int percent = 99; percent >= kSmallestPercent; --percent)
        consider({full.low * percent / 100, full.high * percent / 100});
    for (int round = 0; kind == RangeKind::asymmetric && round < kRounds; ++round) {
        for (int percent = 100; percent >= kSmallestPercent; --percent)
            consider({full.low * percent / 100, best.high});
        for (int percent = 100; percent >= kSmallestPercent; --percent)
            consider({best.low, full.high * percent / 100});
    }
    return best;
}

}  // namespace tcompress::calibration
