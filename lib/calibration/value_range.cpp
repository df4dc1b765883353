#include "lib/calibration/value_range.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "kernels/quantize.h"

namespace tcompress::calibration {

namespace {

void widen(ValueRange& range, float low, float high) {
    range.low = std::min(range.low, low);
    range.high = std::max(range.high, high);
}

}  // namespace

void MinMaxRange::add(std::span<const Rows> sources) {
    if (sources[0].rows == 0) return;
    const kernels::MinMax batch = kernels::minMax(sources[0].values);
    if (isEmpty_) range_ = {batch.min, batch.max};
    isEmpty_ = false;
    widen(range_, batch.min, batch.max);
}

void MovingRange::add(std::span<const Rows> sources) {
    if (sources[0].rows == 0) return;
    const kernels::MinMax batch = kernels::minMax(sources[0].values);
    const double kept = isEmpty_ ? 0.0 : momentum_;
    low_ = kept * low_ + (1 - kept) * static_cast<double>(batch.min);
    high_ = kept * high_ + (1 - kept) * static_cast<double>(batch.max);
    isEmpty_ = false;
}

std::string MovingRange::kind() const { return fmt::format("moving range with momentum {}", momentum_); }

void ChannelRanges::add(std::span<const Rows> sources) {
    const Rows& x = sources[0];
    if (x.rows == 0) return;
    std::vector<float> low(static_cast<std::size_t>(x.channels)), high(low.size());
    kernels::groupMinMax({kernels::Granularity::axis, x.rows, x.channels, 1}, x.values, low, high);
    const bool isFirst = ranges_.empty();
    ranges_.resize(low.size());
    for (std::size_t c = 0; c < low.size(); ++c) {
        if (isFirst) ranges_[c] = {low[c], high[c]};
        widen(ranges_[c], low[c], high[c]);
    }
}

std::vector<float> ChannelRanges::absoluteMaxima() const {
    std::vector<float> maxima;
    for (const ValueRange& range : ranges_)
        maxima.push_back(std::max(std::fabs(range.low), std::fabs(range.high)));
    return maxima;
}

}  // namespace tcompress::calibration
