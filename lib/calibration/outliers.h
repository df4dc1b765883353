#pragma once
// The largest magnitudes of a value and where they stand: a few channels that are much larger than the rest
// decide what a tensor-wide scale costs.

#include <string>
#include <vector>

#include "lib/calibration/archive.h"
#include "lib/calibration/statistic.h"

namespace tcompress::calibration {

/// Without padding, so that equal ones have equal bytes.
struct Outlier {
    float value = 0;
    std::int32_t channel = 0;
    std::int64_t row = 0;  ///< counted over all rows that were seen
    bool operator==(const Outlier&) const = default;
};
static_assert(sizeof(Outlier) == 16);

/// The `count` values of largest magnitude, largest first; of equal ones those seen first.
class TopOutliers : public Statistic {
  public:
    TopOutliers(Source source, std::size_t count) : source_(source), count_(count) {}
    const std::vector<Outlier>& result() const { return largest_; }

    std::vector<Source> sources() const override { return {source_}; }
    void add(std::span<const Rows> sources) override;

    std::string kind() const override { return std::to_string(count_) + " largest magnitudes"; }
    void transfer(Archive& archive) override { archive(rows_), archive(largest_); }

  private:
    Source source_;
    std::size_t count_;
    std::int64_t rows_ = 0;
    std::vector<Outlier> largest_;
};

}  // namespace tcompress::calibration
