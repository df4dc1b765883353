#include "passes/quantize/grid/group_grid.h"

#include <algorithm>

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

GridRule::GridRule(const QuantizationRule& rule)
    : symmetry(rule.symmetry),
      halfScales(rule.scaleType == DType::float16),
      codes(static_cast<float>(1 << rule.bits)),
      low(static_cast<float>(codeRange(rule).low)),
      high(static_cast<float>(codeRange(rule).high)) {}

Grid gridFor(const Extent& extent, const QuantizationRule& rule, Shares shares) {
    return coveringGrid(extent.min, extent.max, GridRule(rule), shares);
}

TCOMPRESS_MULTIVERSION bool widenByRow(const float* __restrict x, std::int64_t columns, float* __restrict min,
                                       float* __restrict max) {
    float outside[kLanes] = {};
    std::int64_t i = 0;
    for (; i + kLanes <= columns; i += kLanes)
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            const float value = x[i + lane];
            min[i + lane] = value < min[i + lane] ? value : min[i + lane];
            max[i + lane] = value > max[i + lane] ? value : max[i + lane];
            outside[lane] += value * 0.0F;  // NaN for infinities and NaN
        }
    for (; i < columns; ++i) {
        min[i] = x[i] < min[i] ? x[i] : min[i];
        max[i] = x[i] > max[i] ? x[i] : max[i];
        outside[0] += x[i] * 0.0F;
    }
    return sumOf(outside) == 0.0F;
}

TCOMPRESS_MULTIVERSION void coverRanges(const float* min, const float* max, std::int64_t count,
                                        const GridRule& given, float* __restrict scale, float* __restrict low,
                                        float* __restrict high, float* __restrict zeroPoint) {
    const GridRule rule = given;
    for (std::int64_t i = 0; i < count; ++i) {
        const Grid grid = coveringGrid(min[i], max[i], rule);
        scale[i] = grid.scale;
        low[i] = grid.low;
        high[i] = grid.high;
        zeroPoint[i] = grid.zeroPoint;
    }
}

TCOMPRESS_MULTIVERSION Energy encodeRows(Rows given, std::int64_t rows, std::int64_t columns,
                                         const float* scales, const float* lows, const float* highs,
                                         const float* zeroPoints, std::uint8_t* codes,
                                         std::int64_t codeStride) {
    float errors[kLanes] = {}, weights[kLanes] = {};
    for (std::int64_t row = 0; row < rows; ++row) {
        const float* x = given.first + row * given.stride;
        std::uint8_t* target = codes + row * codeStride;
        std::int64_t i = 0;
        for (; i + kLanes <= columns; i += kLanes) {
            std::int32_t rounded[kLanes];
            for (std::int64_t lane = 0; lane < kLanes; ++lane) {
                const float value = x[i + lane], scale = scales[i + lane];
                const float q = roundHalfEven(clamped(value / scale, lows[i + lane], highs[i + lane]));
                const float error = q * scale - value;
                errors[lane] += error * error;
                weights[lane] += value * value;
                rounded[lane] = static_cast<std::int32_t>(q + zeroPoints[i + lane]);
            }
            for (std::int64_t lane = 0; lane < kLanes; ++lane)
                target[i + lane] = static_cast<std::uint8_t>(rounded[lane]);
        }
        for (; i < columns; ++i) {
            const float q = roundHalfEven(clamped(x[i] / scales[i], lows[i], highs[i]));
            const float error = q * scales[i] - x[i];
            errors[0] += error * error;
            weights[0] += x[i] * x[i];
            target[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(q + zeroPoints[i]));
        }
    }
    return {sumOf(errors), sumOf(weights)};
}

}  // namespace tcompress::passes
