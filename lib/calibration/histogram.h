#pragma once
// The distribution of a value in a histogram of fixed size. Cells are [k · 2^e, (k + 1) · 2^e) for whole k.
// When a value falls outside, e grows and pairs of cells are merged: a cell of the finer grid lies in exactly
// one of the coarser, so re-binning loses nothing but resolution, and the histogram is that of all the data,
// whatever their order.

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "lib/calibration/archive.h"
#include "lib/calibration/statistic.h"

namespace tcompress::calibration {

class Histogram {
  public:
    /// 4096 cells: the occupied range takes at least half of them.
    static constexpr std::int64_t kDefaultCells = 4096;

    explicit Histogram(std::int64_t cells = kDefaultCells) : counts_(static_cast<std::size_t>(cells)) {}

    /// The values must be finite.
    void add(std::span<const float> values);

    std::uint64_t total() const { return total_; }
    /// Smallest and largest value, exactly; 0 when there is none.
    float minimum() const { return total_ == 0 ? 0.0F : minimum_; }
    float maximum() const { return total_ == 0 ? 0.0F : maximum_; }
    /// Width of a cell, a power of two: the smallest for which the values' range fits.
    double width() const;
    /// Lower edge of cell i.
    double edge(std::size_t i) const;
    const std::vector<std::uint64_t>& counts() const { return counts_; }
    /// Counts of |x| in cells [j · w, (j + 1) · w) from 0 up to the largest |x|, at most as many as counts()
    /// has; `w` is width() or, when the values are far from 0 for their spread, a power of two times it.
    std::vector<std::uint64_t> absoluteCounts(double& w) const;

    bool operator==(const Histogram&) const = default;
    void transfer(Archive& archive) {
        archive(counts_), archive(total_), archive(exponent_), archive(first_), archive(minimum_),
            archive(maximum_);
    }

  private:
    /// Makes room for values from `low` to `high` beside those that are there.
    void widen(float low, float high);

    std::vector<std::uint64_t> counts_;
    std::uint64_t total_ = 0;
    std::int32_t exponent_ = 0;
    std::int32_t first_ = 0;  // cell number of counts_[0]
    float minimum_ = std::numeric_limits<float>::infinity();
    float maximum_ = -std::numeric_limits<float>::infinity();
};

/// The histogram of a value, over all its channels.
class HistogramCounts : public Statistic {
  public:
    explicit HistogramCounts(Source source, std::int64_t cells = Histogram::kDefaultCells)
        : source_(source), histogram_(cells) {}
    const Histogram& result() const { return histogram_; }

    std::vector<Source> sources() const override { return {source_}; }
    void add(std::span<const Rows> sources) override { histogram_.add(sources[0].values); }

    std::string kind() const override {
        return "histogram in " + std::to_string(histogram_.counts().size()) + " cells";
    }
    void transfer(Archive& archive) override { histogram_.transfer(archive); }

  private:
    Source source_;
    Histogram histogram_;
};

}  // namespace tcompress::calibration
