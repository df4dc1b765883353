#pragma once
// Gains and biases of normalizations, fitted again channel by channel: z ≈ a·z' + b from what a channel is now to what it was is
// closed-form least squares. For a residual stream that lost channels, whose means and variances are others, and for
// normalizations that become something simpler.

#include <string>
#include <vector>

#include "lib/calibration/resources.h"
#include "lib/calibration/statistic.h"
#include "lib/data/dataset.h"
#include "lib/ir/model.h"
#include "passes/support/residual_stream.h"

namespace tcompress::passes {

/// Sums over rows, channel by channel: of a value of the edited model, of what it is to be, and of their products.
class ChannelLines : public calibration::Statistic {
  public:
    /// Channels are the last axis; channel c of `now` is to be channel kept[c] of `target`.
    ChannelLines(calibration::Source now, calibration::Source target, std::vector<std::int64_t> kept);
    /// Channels are an axis of `channels` in front of the last one, with `rowsOfChannel` rows each (1 for [N, C, L], H for
    /// [N, C, H, W]).
    ChannelLines(calibration::Source now, calibration::Source target, std::int64_t channels,
                 std::int64_t rowsOfChannel);

    std::vector<calibration::Source> sources() const override { return {now_, target_}; }
    calibration::RowsSeen rowsSeen() const override {
        return rowsOfChannel_ > 0 ? calibration::RowsSeen::all : calibration::RowsSeen::tokens;
    }
    /// Throws PassError when the two differ in size.
    void add(std::span<const calibration::Rows> rows) override;

    std::string kind() const override;
    void transfer(calibration::Archive& archive) override;

    struct Line {
        double slope = 1, offset = 0;
    };
    enum class Offset { none, fitted };
    /// Through the origin without an offset.
    Line line(std::size_t channel, Offset offset) const;
    /// Σ (target − slope·now − offset)² over all channels, divided by Σ target²: one line a channel.
    double relativeSquaredError(const std::vector<Line>& lines) const;

  private:
    struct Sums {
        double count = 0, now = 0, target = 0, nowNow = 0, nowTarget = 0, targetTarget = 0;
        void add(double x, double y);
    };
    void checkSizes(const calibration::Rows& now, const calibration::Rows& target) const;

    calibration::Source now_, target_;
    std::vector<std::int64_t> kept_;
    std::int64_t rowsOfChannel_ = 0;
    std::vector<Sums> sums_;
};

/// Fits one site to a value of `reference`, whose channel kept[c] is channel c here.
void refitAffine(ir::Model& model, const ir::Model& reference, const AffineSite& site, const ir::Value& target,
                 const std::vector<std::int64_t>& kept, const data::Dataset& samples, const calibration::Environment& environment);

}  // namespace tcompress::passes
