#include "lib/calibration/histogram.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/histogram.h"
#include "kernels/quantize.h"

namespace tcompress::calibration {

namespace {

/// Cell numbers keep below 2^30, so that they and their differences fit 32 bits.
constexpr std::int32_t kCellBits = 30;
/// Powers of two whose inverse is a normal float.
constexpr std::int32_t kSmallestExponent = -120;

std::int32_t cellOf(float x, std::int32_t exponent) {
    return static_cast<std::int32_t>(std::floor(std::ldexp(static_cast<double>(x), -exponent)));
}

}  // namespace

double Histogram::width() const { return std::ldexp(1.0, exponent_); }

double Histogram::edge(std::size_t i) const {
    return std::ldexp(static_cast<double>(first_) + static_cast<double>(i), exponent_);
}

void Histogram::widen(float low, float high) {
    const float minimum = std::min(low, minimum_), maximum = std::max(high, maximum_);
    const float largest = std::max(std::fabs(minimum), std::fabs(maximum));
    std::int32_t exponent = total_ == 0 ? kSmallestExponent : exponent_;
    if (largest > 0) exponent = std::max(exponent, std::ilogb(largest) + 2 - kCellBits);
    const auto cells = static_cast<std::int64_t>(counts_.size());
    while (std::int64_t{cellOf(maximum, exponent)} - cellOf(minimum, exponent) >= cells) ++exponent;
    const std::int32_t first = cellOf(minimum, exponent);
    if (total_ > 0 && (exponent != exponent_ || first != first_)) {
        std::vector<std::uint64_t> moved(counts_.size());
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            if (counts_[i] == 0) continue;
            const std::int64_t cell = std::int64_t{first_} + static_cast<std::int64_t>(i);
            // A shift rounds down for negative numbers too.
            const std::int64_t merged = cell >> std::min(exponent - exponent_, 62);
            moved[static_cast<std::size_t>(merged - first)] += counts_[i];
        }
        counts_ = std::move(moved);
    }
    exponent_ = exponent;
    first_ = first;
    minimum_ = minimum;
    maximum_ = maximum;
}

void Histogram::add(std::span<const float> values) {
    if (values.empty()) return;
    const kernels::MinMax range = kernels::minMax(values);
    widen(range.min, range.max);
    kernels::countCells({values, exponent_, first_, counts_});
    total_ += values.size();
}

std::vector<std::uint64_t> Histogram::absoluteCounts(double& w) const {
    const auto farthest = [&](int shift) {
        const std::int64_t below = -((std::int64_t{cellOf(minimum(), exponent_)} >> shift) + 1);
        return std::max(below, std::int64_t{cellOf(maximum(), exponent_)} >> shift);
    };
    int shift = 0;
    while (farthest(shift) >= static_cast<std::int64_t>(counts_.size())) ++shift;
    std::vector<std::uint64_t> folded(static_cast<std::size_t>(std::max<std::int64_t>(farthest(shift), 0)) +
                                      1);
    for (std::size_t i = 0; i < counts_.size(); ++i) {
        if (counts_[i] == 0) continue;
        const std::int64_t cell = (std::int64_t{first_} + static_cast<std::int64_t>(i)) >> shift;
        folded[static_cast<std::size_t>(cell >= 0 ? cell : -cell - 1)] += counts_[i];
    }
    w = std::ldexp(1.0, exponent_ + shift);
    return folded;
}

}  // namespace tcompress::calibration
