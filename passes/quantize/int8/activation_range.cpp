#include "passes/quantize/int8/activation_range.h"

#include <fmt/core.h>

#include <span>

#include "lib/calibration/clip_range.h"
#include "lib/support/sha256.h"

namespace tcompress::passes {
namespace {

calibration::ClipRange chosen(const calibration::Histogram& histogram, const ActivationRange& range) {
    constexpr auto kKind = calibration::RangeKind::asymmetric;
    switch (range.observer) {
        case ActivationObserver::minmax:
            break;
        case ActivationObserver::percentile:
            return percentileRange(histogram, range.percentile / 100, kKind);
        case ActivationObserver::entropy:
            return entropyRange(histogram, kKind);
        case ActivationObserver::mse:
            return leastSquaresRange(histogram, kKind, /*steps=*/255);
    }
    return fullRange(histogram, kKind);
}

}  // namespace

std::string SmoothedHistogram::kind() const {
    return fmt::format("histogram of shifted {} and scaled {} channels", sha256(std::as_bytes(std::span(shifts_))),
                       sha256(std::as_bytes(std::span(factors_))));
}

void SmoothedHistogram::add(std::span<const calibration::Rows> sources) {
    const calibration::Rows& x = sources.front();
    std::vector<float> values(x.values.begin(), x.values.end());
    const auto channels = static_cast<std::size_t>(x.channels);
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (!shifts_.empty()) values[i] -= shifts_[i % channels];
        if (!factors_.empty()) values[i] *= factors_[i % channels];
    }
    histogram_.add(values);
}

kernels::UInt8Parameters chooseParameters(const calibration::Histogram& histogram,
                                          const ActivationRange& range) {
    const calibration::ClipRange ends = chosen(histogram, range);
    return kernels::dynamicUInt8Parameters({static_cast<float>(ends.low), static_cast<float>(ends.high)});
}

}  // namespace tcompress::passes
