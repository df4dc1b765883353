#include "passes/quantize/grid/range_search.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "lib/support/check.h"

namespace tcompress::passes {
namespace {

/// Grids that are tried side by side, one a lane.
struct Candidates {
    float scale[kLanes];
    float inverse[kLanes];
    float low[kLanes];
    float high[kLanes];
};

/// gridFor, a lane each, but for the rounding of scales to the type they are stored in, which does not move the best
/// cut.
TCOMPRESS_MULTIVERSION void asymmetricGrids(const Extent& extent, float steps, const float* lowShares,
                                            const float* highShares, Candidates& grids) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
        const float low = extent.min * lowShares[lane], high = extent.max * highShares[lane];
        const float scale = high / steps - low / steps;
        const bool fits = std::fabs(scale) > kSmallestMagnitude;
        const float zeroPoint = clamped(roundHalfEven(clamped(-low / scale, 0.0F, steps + 1)), 0.0F, steps);
        grids.scale[lane] = fits ? scale : 1.0F;
        grids.inverse[lane] = fits ? 1.0F / scale : 1.0F;
        grids.low[lane] = fits ? -zeroPoint : 0.0F;
        grids.high[lane] = fits ? steps - zeroPoint : 0.0F;
    }
}

/// The whole range's `magnitude` is `steps` steps, negative ones where the scale is.
TCOMPRESS_MULTIVERSION void symmetricGrids(float magnitude, float steps, CodeRange range, const float* shares,
                                           Candidates& grids) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
        const float scale = magnitude * shares[lane] / steps;
        const bool fits = std::fabs(scale) > kSmallestMagnitude;
        grids.scale[lane] = fits ? scale : 1.0F;
        grids.inverse[lane] = fits ? 1.0F / scale : 1.0F;
        grids.low[lane] = fits ? static_cast<float>(range.low) : 0.0F;
        grids.high[lane] = fits ? static_cast<float>(range.high) : 0.0F;
    }
}

/// Squared error of the group on each grid, times what each place counts. False, and errors that are not whole, as soon
/// as none can become smaller than `limit`.
TCOMPRESS_MULTIVERSION bool squaredErrors(const float* x, const float* importance, std::int64_t n,
                                          const Candidates& grids, float limit, float* errors) {
    constexpr std::int64_t kWeights = 16;  // between looks at the limit
    float sums[kLanes] = {};
    bool anyBelow = true;
    for (std::int64_t begin = 0; begin < n && anyBelow; begin += kWeights) {
        const std::int64_t end = std::min(n, begin + kWeights);
        for (std::int64_t i = begin; i < end; ++i) {
            for (std::int64_t lane = 0; lane < kLanes; ++lane) {
                const float q =
                    roundHalfEven(clamped(x[i] * grids.inverse[lane], grids.low[lane], grids.high[lane]));
                const float error = q * grids.scale[lane] - x[i];
                sums[lane] += error * error * importance[i];
            }
        }
        std::uint8_t below[kLanes];
        for (std::int64_t lane = 0; lane < kLanes; ++lane) below[lane] = sums[lane] < limit ? 1 : 0;
        std::uint64_t words[2];
        static_assert(sizeof words == sizeof below);
        std::memcpy(words, below, sizeof words);
        anyBelow = (words[0] | words[1]) != 0;
    }
    std::copy(sums, sums + kLanes, errors);
    return anyBelow;
}

/// The whole range comes first. On a full-range grid shares above 1 bring in the side that has one code less.
std::vector<Shares> sharesToTry(Symmetry symmetry) {
    std::vector<Shares> shares{{1, 1}};
    if (symmetry == Symmetry::asymmetric) {
        for (int low = 0; low < 8; ++low)
            for (int high = 0; high < 8; ++high)
                if (low + high > 0)
                    shares.push_back(
                        {1 - 0.05F * static_cast<float>(low), 1 - 0.05F * static_cast<float>(high)});
        return shares;
    }
    const float top = symmetry == Symmetry::balanced ? 1.0F : 1.2F;
    constexpr int kSteps = 31;
    constexpr float kBottom = 0.5F;
    for (int step = 0; step < kSteps; ++step) {
        const float share = kBottom + (top - kBottom) * static_cast<float>(step) / kSteps;
        shares.push_back({share, share});
    }
    return shares;
}

}  // namespace

RangeSearch::RangeSearch(const QuantizationRule& rule) : rule_(rule) {
    for (const Shares& shares : sharesToTry(rule.symmetry)) {
        low_.push_back(shares.low);
        high_.push_back(shares.high);
    }
    TCOMPRESS_CHECK(std::ssize(low_) % kLanes == 0, "cuts that do not fill their lanes");
}

Shares RangeSearch::best(const float* x, const float* importance, std::int64_t n, const Extent& extent) const {
    const CodeRange range = codeRange(rule_);
    const auto codes = static_cast<float>(1 << rule_.bits);
    float magnitude = std::max(-extent.min, extent.max), steps = static_cast<float>(range.high);
    if (rule_.symmetry == Symmetry::fullRange) {
        steps = codes / 2;
        if (extent.max > -extent.min) magnitude = -magnitude;
    }
    Shares best;
    float bestError = FLT_MAX;
    for (std::size_t first = 0; first < low_.size(); first += kLanes) {
        Candidates candidates;
        if (rule_.symmetry == Symmetry::asymmetric)
            asymmetricGrids(extent, codes - 1, low_.data() + first, high_.data() + first, candidates);
        else
            symmetricGrids(magnitude, steps, range, high_.data() + first, candidates);
        float errors[kLanes];
        if (!squaredErrors(x, importance, n, candidates, bestError, errors)) continue;
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            if (errors[lane] >= bestError) continue;
            best = {low_[first + lane], high_[first + lane]};
            bestError = errors[lane];
        }
    }
    return best;
}

}  // namespace tcompress::passes
