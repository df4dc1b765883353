#include "lib/calibration/channel_statistics.h"

#include <algorithm>
#include <cmath>

#include "lib/calibration/collector.h"
#include "lib/calibration/moments.h"
#include "lib/support/parallel.h"

namespace tcompress::calibration {

namespace {

std::vector<double> dividedBy(std::vector<double> sums, std::int64_t rows) {
    const double scale = 1.0 / static_cast<double>(rows);
    for (double& sum : sums) sum *= scale;
    return sums;
}

}  // namespace

void ChannelSums::add(std::span<const Rows> sources) {
    const Rows& x = sources[0];
    rows_ += x.rows;
    const auto channels = static_cast<std::size_t>(x.channels);
    for (std::vector<double>* sums : {&plain_, &absolute_, &squares_, &maximum_}) sums->resize(channels);
    constexpr std::int64_t kChannelsOfATask = 64;
    parallelRanges(x.channels, kChannelsOfATask, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = 0; row < x.rows; ++row) {
            const float* values = x.row(row).data();
            for (std::int64_t c = begin; c < end; ++c) {
                const auto channel = static_cast<std::size_t>(c);
                const double value = values[c];
                plain_[channel] += value;
                absolute_[channel] += std::fabs(value);
                squares_[channel] += value * value;
                maximum_[channel] = std::max(maximum_[channel], std::fabs(value));
            }
        }
    });
}

ChannelStatistics ChannelSums::result() const {
    ChannelStatistics result;
    if (rows_ == 0) return result;
    result.rows = rows_;
    result.mean = dividedBy(plain_, rows_);
    result.meanAbsolute = dividedBy(absolute_, rows_);
    result.meanSquare = dividedBy(squares_, rows_);
    result.absoluteMaximum = maximum_;
    return result;
}

std::map<const ir::Value*, ChannelStatistics> collectChannelStatistics(
    const ir::Model& model, const data::Dataset& calibration, const ValueSet& values, MomentOrder moments,
    Progress& progress, const Resources& resources) {
    Collector collector(model);
    std::map<const ir::Value*, const ChannelSums*> first;
    std::map<const ir::Value*, MomentSums*> second;
    for (const ir::Value* value : values) {
        first[value] = &collector.add<ChannelSums>(value);
        if (moments == MomentOrder::second) second[value] = &collector.add<MomentSums>(MomentsRequest{value});
    }
    collector.run(calibration, progress, resources);
    std::map<const ir::Value*, ChannelStatistics> result;
    for (const auto& [value, sums] : first) {
        ChannelStatistics statistics = sums->result();
        if (statistics.rows == 0) continue;
        if (moments == MomentOrder::second)
            statistics.secondMoment = dividedBy(second.at(value)->take().gram, statistics.rows);
        result.emplace(value, std::move(statistics));
    }
    return result;
}

}  // namespace tcompress::calibration
