#pragma once
// Smallest and largest values: of a whole value, of each of its channels, and averaged over batches.

#include <string>
#include <vector>

#include "lib/calibration/archive.h"
#include "lib/calibration/statistic.h"

namespace tcompress::calibration {

struct ValueRange {
    float low = 0;
    float high = 0;
    bool operator==(const ValueRange&) const = default;
};

/// The smallest and the largest value seen; {0, 0} when there was none.
class MinMaxRange : public Statistic {
  public:
    explicit MinMaxRange(Source source) : source_(source) {}
    const ValueRange& result() const { return range_; }

    std::vector<Source> sources() const override { return {source_}; }
    void add(std::span<const Rows> sources) override;

    std::string kind() const override { return "range"; }
    void transfer(Archive& archive) override { archive(isEmpty_), archive(range_); }

  private:
    Source source_;
    bool isEmpty_ = true;
    ValueRange range_;
};

/// The exponentially weighted average of each batch's smallest and largest value (Jacob et al. 2018, section
/// 3): range ← momentum · range + (1 − momentum) · batch, starting with the first batch. Depends on the order
/// of the samples and on how they are batched (batches.h).
class MovingRange : public Statistic {
  public:
    explicit MovingRange(Source source, double momentum = 0.9) : source_(source), momentum_(momentum) {}
    ValueRange result() const { return {static_cast<float>(low_), static_cast<float>(high_)}; }

    std::vector<Source> sources() const override { return {source_}; }
    void add(std::span<const Rows> sources) override;

    std::string kind() const override;
    void transfer(Archive& archive) override { archive(isEmpty_), archive(low_), archive(high_); }

  private:
    Source source_;
    double momentum_;
    bool isEmpty_ = true;
    double low_ = 0, high_ = 0;
};

/// The range of each channel; empty when no row was seen.
class ChannelRanges : public Statistic {
  public:
    explicit ChannelRanges(Source source) : source_(source) {}
    const std::vector<ValueRange>& result() const { return ranges_; }
    /// Largest |x| of each channel.
    std::vector<float> absoluteMaxima() const;

    std::vector<Source> sources() const override { return {source_}; }
    void add(std::span<const Rows> sources) override;

    std::string kind() const override { return "ranges of channels"; }
    void transfer(Archive& archive) override { archive(ranges_); }

  private:
    Source source_;
    std::vector<ValueRange> ranges_;
};

}  // namespace tcompress::calibration
