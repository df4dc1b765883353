// Clipping thresholds against their definitions on the data, not on the histogram.

#include "lib/calibration/clip_range.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "lib/support/random.h"

namespace {

using namespace tcompress;
using namespace tcompress::calibration;

/// Mostly normal with a heavy tail, as activations are.
std::vector<float> activations(std::size_t count, const char* name, double shift = 0) {
    Random random(21, name);
    std::vector<float> values(count);
    for (float& value : values) {
        const double tail = random.uniform() < 0.02 ? 8 : 1;
        value = static_cast<float>(random.normal() * tail + shift);
    }
    return values;
}

Histogram histogramOf(const std::vector<float>& values, std::int64_t cells = Histogram::kDefaultCells) {
    Histogram histogram(cells);
    histogram.add(values);
    return histogram;
}

double largestMagnitude(const std::vector<float>& values) {
    double largest = 0;
    for (const float value : values) largest = std::max(largest, std::fabs(static_cast<double>(value)));
    return largest;
}

/// The algorithm of the slides, word by word: distributions as arrays, one candidate after the other.
double literalEntropyThreshold(const std::vector<std::uint64_t>& bins, double width, std::size_t levels,
                               double largest) {
    double best = std::numeric_limits<double>::infinity(), threshold = largest;
    for (std::size_t i = levels; i <= bins.size(); ++i) {
        std::vector<double> reference(bins.begin(), bins.begin() + static_cast<std::ptrdiff_t>(i));
        double inside = 0, outliers = 0;
        for (const double count : reference) inside += count;
        for (std::size_t k = i; k < bins.size(); ++k) outliers += static_cast<double>(bins[k]);
        if (inside == 0) continue;
        std::vector<double> candidate(i);
        for (std::size_t level = 0; level < levels; ++level) {
            const std::size_t begin = level * i / levels, end = (level + 1) * i / levels;
            double sum = 0, filled = 0;
            for (std::size_t k = begin; k < end; ++k) {
                sum += reference[k];
                filled += reference[k] > 0 ? 1 : 0;
            }
            for (std::size_t k = begin; k < end; ++k) candidate[k] = reference[k] > 0 ? sum / filled : 0;
        }
        reference[i - 1] += outliers;
        double total = 0, candidateTotal = 0, divergence = 0;
        for (const double p : reference) total += p;
        for (const double q : candidate) candidateTotal += q;
        for (std::size_t k = 0; k < i; ++k) {
            if (reference[k] == 0) continue;
            const double p = reference[k] / total, q = candidate[k] / candidateTotal;
            divergence += q == 0 ? std::numeric_limits<double>::infinity() : p * std::log(p / q);
        }
        if (divergence < best) {
            best = divergence;
            threshold = std::min((static_cast<double>(i) + 0.5) * width, largest);
        }
    }
    return threshold;
}

double quantizationError(const std::vector<float>& values, const ClipRange& range, std::int64_t steps) {
    const double scale = (range.high - range.low) / static_cast<double>(steps);
    const double zero = std::nearbyint(-range.low / scale);
    double sum = 0;
    for (const float value : values) {
        const double step = std::clamp(std::nearbyint(static_cast<double>(value) / scale) + zero, 0.0,
                                       static_cast<double>(steps));
        const double error = static_cast<double>(value) - (step - zero) * scale;
        sum += error * error;
    }
    return sum;
}

}  // namespace

TEST_CASE("the full range holds every value and zero") {
    const Histogram above = histogramOf({2, 5, 3}), both = histogramOf({-1, 4});
    CHECK(fullRange(above, RangeKind::asymmetric) == ClipRange{0, 5});
    CHECK(fullRange(both, RangeKind::asymmetric) == ClipRange{-1, 4});
    CHECK(fullRange(both, RangeKind::symmetric) == ClipRange{-4, 4});
    CHECK(fullRange(Histogram(), RangeKind::symmetric) == ClipRange{0, 0});
}

TEST_CASE("a percentile is that of the sorted values, within a cell") {
    for (const double shift : {0.0, 3.0}) {
        std::vector<float> values = activations(20000, "percentile", shift);
        const Histogram histogram = histogramOf(values);
        std::vector<float> magnitudes(values);
        for (float& value : magnitudes) value = std::fabs(value);
        std::sort(values.begin(), values.end());
        std::sort(magnitudes.begin(), magnitudes.end());
        for (const double share : {0.5, 0.99, 0.9999, 1.0}) {
            const auto at = [&](const std::vector<float>& sorted, double part) {
                const double place = std::clamp(part * static_cast<double>(sorted.size()), 1.0,
                                                static_cast<double>(sorted.size()));
                return static_cast<double>(sorted[static_cast<std::size_t>(std::ceil(place)) - 1]);
            };
            const ClipRange symmetric = percentileRange(histogram, share, RangeKind::symmetric);
            CHECK(symmetric.high == Approx(at(magnitudes, share)).margin(1.01 * histogram.width()));
            CHECK(symmetric.low == -symmetric.high);
            const ClipRange free = percentileRange(histogram, share, RangeKind::asymmetric);
            CHECK(free.high == Approx(at(values, (1 + share) / 2)).margin(1.01 * histogram.width()));
            CHECK(free.low ==
                  Approx(std::min(0.0, at(values, (1 - share) / 2))).margin(1.01 * histogram.width()));
        }
    }
}

TEST_CASE("the entropy threshold is that of the algorithm read literally") {
    for (const std::int64_t cells : {300, 1000})
        for (const std::int64_t levels : {1, 7, 128})
            for (const char* name : {"entropy", "other"}) {
                std::vector<float> values = activations(3000, name);
                values.push_back(100);  // far away, with empty cells before it
                const Histogram histogram = histogramOf(values, cells);
                double width = 0;
                const std::vector<std::uint64_t> bins = histogram.absoluteCounts(width);
                const double expected = literalEntropyThreshold(bins, width, static_cast<std::size_t>(levels),
                                                                largestMagnitude(values));
                INFO(cells << " cells, " << levels << " levels, " << name);
                CHECK(entropyRange(histogram, RangeKind::symmetric, levels).high == expected);
            }
    CHECK(entropyRange(histogramOf({1, 1, 1}), RangeKind::symmetric) == ClipRange{-1, 1});
    const std::vector<float> values = activations(5000, "entropy");
    CHECK(entropyRange(histogramOf(values), RangeKind::symmetric).high < 0.8 * largestMagnitude(values));
    std::vector<float> positive(values);
    for (float& value : positive) value = std::fabs(value);
    const ClipRange oneSided = entropyRange(histogramOf(positive), RangeKind::asymmetric);
    CHECK(oneSided.low == 0);
    CHECK(oneSided.high == entropyRange(histogramOf(positive), RangeKind::symmetric).high);
}

TEST_CASE("the least-squares range beats the full range and every neighbour on the data") {
    for (const std::int64_t steps : {6, 15, 254})
        for (const RangeKind kind : {RangeKind::symmetric, RangeKind::asymmetric}) {
            const std::vector<float> values =
                activations(20000, "squares", kind == RangeKind::asymmetric ? 2 : 0);
            const Histogram histogram = histogramOf(values);
            const ClipRange best = leastSquaresRange(histogram, kind, steps);
            const double error = quantizationError(values, best, steps);
            INFO(steps << " steps from " << best.low << " to " << best.high);
            CHECK(error < quantizationError(values, fullRange(histogram, kind), steps));
            // The least over the range scaled as a whole, but for the coarseness of the search and of the
            // cells.
            const ClipRange full = fullRange(histogram, kind);
            double least = error;
            for (int percent = 1; percent <= 100; ++percent)
                least = std::min(
                    least,
                    quantizationError(values, {full.low * percent / 100, full.high * percent / 100}, steps));
            CHECK(error <= 1.01 * least);
        }
    CHECK(leastSquaresRange(histogramOf({0, 0}), RangeKind::symmetric) == ClipRange{0, 0});
}
