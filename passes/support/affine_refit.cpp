#include "passes/support/affine_refit.h"

#include <fmt/core.h>

#include <algorithm>

#include "lib/calibration/archive.h"
#include "lib/calibration/collector.h"
#include "lib/ir/edit.h"
#include "lib/support/error.h"
#include "lib/support/sha256.h"

namespace tcompress::passes {

using calibration::Rows;
using calibration::Side;
using calibration::Source;

ChannelLines::ChannelLines(Source now, Source target, std::vector<std::int64_t> kept)
    : now_(now), target_(target), kept_(std::move(kept)), sums_(kept_.size()) {}

ChannelLines::ChannelLines(Source now, Source target, std::int64_t channels, std::int64_t rowsOfChannel)
    : now_(now), target_(target), rowsOfChannel_(rowsOfChannel), sums_(static_cast<std::size_t>(channels)) {}

void ChannelLines::Sums::add(double x, double y) {
    count += 1;
    now += x;
    target += y;
    nowNow += x * x;
    nowTarget += x * y;
    targetTarget += y * y;
}

void ChannelLines::add(std::span<const Rows> rows) {
    checkSizes(rows[0], rows[1]);
    for (std::int64_t r = 0; r < rows[0].rows; ++r) {
        const auto now = rows[0].row(r), target = rows[1].row(r);
        if (rowsOfChannel_ > 0) {
            Sums& sums = sums_[static_cast<std::size_t>(r / rowsOfChannel_) % sums_.size()];
            for (std::size_t i = 0; i < now.size(); ++i) sums.add(now[i], target[i]);
        } else {
            for (std::size_t c = 0; c < kept_.size(); ++c)
                sums_[c].add(now[c], target[static_cast<std::size_t>(kept_[c])]);
        }
    }
}

/// Shapes that the graph did not state show here only.
void ChannelLines::checkSizes(const Rows& now, const Rows& target) const {
    const bool isFitting = rowsOfChannel_ > 0
                               ? now.channels == target.channels
                               : now.channels == std::ssize(kept_) &&
                                     std::all_of(kept_.begin(), kept_.end(),
                                                 [&](std::int64_t channel) { return channel < target.channels; });
    if (now.rows != target.rows || !isFitting)
        throw PassError(fmt::format(
            "a normalization cannot be fitted: what takes its place gives {} rows of {} channels where it gave {} of {}",
            now.rows, now.channels, target.rows, target.channels));
}

std::string ChannelLines::kind() const {
    return fmt::format("channel lines {} {} {}", sums_.size(), rowsOfChannel_, sha256(std::as_bytes(std::span(kept_))));
}

void ChannelLines::transfer(calibration::Archive& archive) {
    for (Sums& sums : sums_)
        for (double* value : {&sums.count, &sums.now, &sums.target, &sums.nowNow, &sums.nowTarget, &sums.targetTarget})
            archive(*value);
}

ChannelLines::Line ChannelLines::line(std::size_t channel, Offset offset) const {
    const Sums& sums = sums_[channel];
    if (sums.count == 0) return {};
    const bool moves = offset == Offset::fitted;
    const double mean = moves ? sums.now / sums.count : 0, meanTarget = moves ? sums.target / sums.count : 0;
    const double square = sums.nowNow / sums.count, variance = square - mean * mean;
    const double covariance = sums.nowTarget / sums.count - mean * meanTarget;
    // A channel that does not move says nothing of its slope.
    const double slope = variance > 1e-9 * square && variance > 0 ? covariance / variance : 1.0;
    return {slope, meanTarget - slope * mean};
}

double ChannelLines::relativeSquaredError(const std::vector<Line>& lines) const {
    double error = 0, size = 0;
    for (std::size_t c = 0; c < sums_.size(); ++c) {
        const auto [slope, offset] = lines[c];
        const Sums& s = sums_[c];
        error += s.targetTarget + slope * slope * s.nowNow + offset * offset * s.count - 2 * slope * s.nowTarget -
                 2 * offset * s.target + 2 * slope * offset * s.now;
        size += s.targetTarget;
    }
    return size > 0 ? std::max(0.0, error) / size : 0.0;
}

void refitAffine(ir::Model& model, const ir::Model& reference, const AffineSite& site, const ir::Value& target,
                 const std::vector<std::int64_t>& kept, const data::Dataset& samples, const calibration::Environment& environment) {
    calibration::Collector collector(reference, model);
    const auto& lines = collector.add<ChannelLines>(Source(site.output), Source(&target, Side::original), kept);
    collector.run(samples, environment.progress, environment.resources);
    ir::Value* const gainValue = site.gainNode->input(site.gainSlot);
    Tensor gain = *gainValue->constant();
    const bool hasBias = site.biasNode != nullptr;
    ir::Value* const biasValue = hasBias ? site.biasNode->input(site.biasSlot) : nullptr;
    Tensor bias = hasBias ? *biasValue->constant() : Tensor();
    for (std::size_t c = 0; c < kept.size(); ++c) {
        const ChannelLines::Line line =
            lines.line(c, hasBias ? ChannelLines::Offset::fitted : ChannelLines::Offset::none);
        gain.mutableData<float>()[c] *= static_cast<float>(line.slope);
        if (!hasBias) continue;
        float& value = bias.mutableData<float>()[c];
        value = static_cast<float>(line.slope * value + line.offset);
    }
    ir::Edit edit(model, "affine refit");
    edit.setConstant(gainValue, gain);
    if (hasBias) edit.setConstant(biasValue, bias);
    edit.commit();
}

}  // namespace tcompress::passes
