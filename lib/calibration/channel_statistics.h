#pragma once
// Means over rows, channel by channel, of a value and of what scores need of it.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "lib/calibration/archive.h"
#include "lib/calibration/resources.h"
#include "lib/calibration/statistic.h"
#include "lib/data/dataset.h"
#include "lib/support/progress.h"

namespace tcompress::calibration {

/// Of a value seen as rows × channels; each list has one entry a channel. Empty lists when no row was seen.
struct ChannelStatistics {
    std::int64_t rows = 0;
    std::vector<double> mean;
    std::vector<double> meanAbsolute;
    std::vector<double>
        meanSquare;  ///< the diagonal of secondMoment; rows · meanSquare is the squared norm of a channel
    std::vector<double> absoluteMaximum;
    /// XᵀX / rows, channels × channels row-major; empty unless asked for.
    std::vector<double> secondMoment;
};

/// Sums in float64, rows in order.
class ChannelSums : public Statistic {
  public:
    explicit ChannelSums(Source source) : source_(source) {}
    /// Without secondMoment: see MomentSums.
    ChannelStatistics result() const;

    std::vector<Source> sources() const override { return {source_}; }
    void add(std::span<const Rows> sources) override;

    std::string kind() const override { return "sums of channels"; }
    void transfer(Archive& archive) override {
        archive(rows_), archive(plain_), archive(absolute_), archive(squares_), archive(maximum_);
    }

  private:
    Source source_;
    std::int64_t rows_ = 0;
    std::vector<double> plain_, absolute_, squares_, maximum_;
};

enum class MomentOrder { first, second };
using ValueSet = std::set<const ir::Value*>;

/// The statistics of several values of one model in one pass; values that see no row have no entry. Throws as
/// Collector::run.
std::map<const ir::Value*, ChannelStatistics> collectChannelStatistics(
    const ir::Model& model, const data::Dataset& calibration, const ValueSet& values, MomentOrder moments,
    Progress& progress, const Resources& resources = {});

}  // namespace tcompress::calibration
