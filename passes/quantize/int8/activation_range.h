#pragma once
// Constant ranges of activations for static quantization: the distribution of what will be rounded, and the
// observers that cut it (lib/calibration/clip_range.h).

#include <string>
#include <vector>

#include "kernels/quantize.h"
#include "lib/calibration/histogram.h"

namespace tcompress::passes {

enum class ActivationObserver { minmax, percentile, entropy, mse };

struct ActivationRange {
    ActivationObserver observer = ActivationObserver::mse;
    double percentile = 99.99;  ///< of the values that stay inside
};

/// The histogram of (x − shift) · factor, both by channel; either list may be empty.
class SmoothedHistogram : public calibration::Statistic {
  public:
    SmoothedHistogram(calibration::Source source, std::vector<float> shifts, std::vector<float> factors)
        : source_(source), shifts_(std::move(shifts)), factors_(std::move(factors)) {}
    const calibration::Histogram& result() const { return histogram_; }

    std::vector<calibration::Source> sources() const override { return {source_}; }
    void add(std::span<const calibration::Rows> sources) override;
    std::string kind() const override;
    void transfer(calibration::Archive& archive) override { histogram_.transfer(archive); }

  private:
    calibration::Source source_;
    std::vector<float> shifts_, factors_;
    calibration::Histogram histogram_;
};

/// Scale and zero point for uint8 codes of the range that the observer chooses.
kernels::UInt8Parameters chooseParameters(const calibration::Histogram& histogram,
                                          const ActivationRange& range);

}  // namespace tcompress::passes
