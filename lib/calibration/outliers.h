#pragma once
// The largest magnitudes of a value and where they stand: a few channels that are much larger than the rest decide what a
// tensor-wide scale costs.

#include <vector>

#include "lib/calibration/statistic.h"

namespace tcompress::calibration {

struct Outlier {
    float value = 0;
    std::int64_t row = 0;  ///< counted over all rows that were seen
    std::int64_t channel = 0;
    bool operator==(const Outlier&) const = default;
};

/// The `count` values of largest magnitude, largest first; of equal ones those seen first.
class TopOutliers : public Statistic {
  public:
    TopOutliers(Source source, std::size_t count) : source_(source), count_(count) {}
    const std::vector<Outlier>& result() const { return largest_; }

    std::vector<Source> sources() const override { return {source_}; }
    void add(std::span<const Rows> sources) override;

  private:
    Source source_;
    std::size_t count_;
    std::int64_t rows_ = 0;
    std::vector<Outlier> largest_;
};

}  // namespace tcompress::calibration
