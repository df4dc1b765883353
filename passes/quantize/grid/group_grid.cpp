#include "passes/quantize/grid/group_grid.h"

#include <algorithm>
#include <cmath>

namespace tcompress::passes {
namespace {

float sumOf(const float* lanes) {
    float sum = 0;
    for (std::int64_t lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
    return sum;
}

}  // namespace

TCOMPRESS_MULTIVERSION Extent extentOf(const float* x, std::int64_t n) {
    float low[kLanes] = {}, high[kLanes] = {}, outside[kLanes] = {};
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            const float value = x[i + lane];
            low[lane] = value < low[lane] ? value : low[lane];
            high[lane] = value > high[lane] ? value : high[lane];
            outside[lane] += value * 0.0F;  // NaN for infinities and NaN
        }
    }
    for (; i < n; ++i) {
        low[0] = x[i] < low[0] ? x[i] : low[0];
        high[0] = x[i] > high[0] ? x[i] : high[0];
        outside[0] += x[i] * 0.0F;
    }
    return {*std::min_element(low, low + kLanes), *std::max_element(high, high + kLanes),
            sumOf(outside) == 0.0F};
}

TCOMPRESS_MULTIVERSION Energy encode(const float* x, std::int64_t n, const Grid& grid, std::uint8_t* codes) {
    const float scale = grid.scale, low = grid.low, high = grid.high, zeroPoint = grid.zeroPoint;
    float errors[kLanes] = {}, weights[kLanes] = {};
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        std::int32_t rounded[kLanes];
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            const float value = x[i + lane];
            const float q = roundHalfEven(clamped(value / scale, low, high));
            const float error = q * scale - value;
            errors[lane] += error * error;
            weights[lane] += value * value;
            rounded[lane] = static_cast<std::int32_t>(q + zeroPoint);
        }
        for (std::int64_t lane = 0; lane < kLanes; ++lane)
            codes[i + lane] = static_cast<std::uint8_t>(rounded[lane]);
    }
    for (; i < n; ++i) {
        const float q = roundHalfEven(clamped(x[i] / scale, low, high));
        const float error = q * scale - x[i];
        errors[0] += error * error;
        weights[0] += x[i] * x[i];
        codes[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(q + zeroPoint));
    }
    return {sumOf(errors), sumOf(weights)};
}

TCOMPRESS_MULTIVERSION bool columnExtents(const float* x, std::int64_t n, std::int64_t stride,
                                          ColumnExtents& extents) {
    float low[kLanes] = {}, high[kLanes] = {}, outside[kLanes] = {};
    for (std::int64_t i = 0; i < n; ++i) {
        const float* row = x + i * stride;
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            const float value = row[lane];
            low[lane] = value < low[lane] ? value : low[lane];
            high[lane] = value > high[lane] ? value : high[lane];
            outside[lane] += value * 0.0F;  // NaN for infinities and NaN
        }
    }
    std::copy(low, low + kLanes, extents.low);
    std::copy(high, high + kLanes, extents.high);
    return sumOf(outside) == 0.0F;
}

TCOMPRESS_MULTIVERSION Energy encodeColumns(const float* x, std::int64_t n, std::int64_t stride,
                                            const ColumnGrids& grids, std::uint8_t* codes) {
    float errors[kLanes] = {}, weights[kLanes] = {};
    for (std::int64_t i = 0; i < n; ++i) {
        const float* row = x + i * stride;
        std::uint8_t* target = codes + i * stride;
        std::int32_t rounded[kLanes];
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            const float value = row[lane], scale = grids.scale[lane];
            const float q = roundHalfEven(clamped(value / scale, grids.low[lane], grids.high[lane]));
            const float error = q * scale - value;
            errors[lane] += error * error;
            weights[lane] += value * value;
            rounded[lane] = static_cast<std::int32_t>(q + grids.zeroPoint[lane]);
        }
        for (std::int64_t lane = 0; lane < kLanes; ++lane)
            target[lane] = static_cast<std::uint8_t>(rounded[lane]);
    }
    return {sumOf(errors), sumOf(weights)};
}

Grid gridFor(const Extent& extent, const QuantizationRule& rule, Shares shares) {
    const auto codes = static_cast<float>(1 << rule.bits);
    const CodeRange range = codeRange(rule);
    Grid grid;
    if (rule.symmetry == Symmetry::asymmetric) {
        const float low = extent.min * shares.low, high = extent.max * shares.high;
        grid.scale = storedScale(high / (codes - 1) - low / (codes - 1), rule.scaleType);
        if (!(std::fabs(grid.scale) > kSmallestMagnitude)) return {1, 0, 0, 0};
        grid.zeroPoint = clamped(roundHalfEven(clamped(-low / grid.scale, 0.0F, codes)), 0.0F, codes - 1);
        grid.low = -grid.zeroPoint;
        grid.high = codes - 1 - grid.zeroPoint;
        return grid;
    }
    const float magnitude = std::max(-extent.min, extent.max) * shares.high;
    grid.low = static_cast<float>(range.low);
    grid.high = static_cast<float>(range.high);
    if (rule.symmetry == Symmetry::balanced) {
        grid.scale = magnitude / grid.high;
    } else {
        grid.scale = (extent.max > -extent.min ? -magnitude : magnitude) / (codes / 2);
    }
    grid.scale = storedScale(grid.scale, rule.scaleType);
    if (!(std::fabs(grid.scale) > kSmallestMagnitude)) return {1, 0, 0, 0};
    return grid;
}

}  // namespace tcompress::passes
