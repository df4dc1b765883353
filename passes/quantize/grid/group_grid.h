#pragma once
// The grid of one group of weights that covers a given part of its range, and the codes on it.

#include <cmath>
#include <cstdint>

#include "kernels/multiversion.h"
#include "passes/quantize/grid/quantized_weights.h"

namespace tcompress::passes {

/// Loops run over sixteen independent lanes that the compiler keeps in vector registers of whatever width the
/// processor has; the order of additions does not depend on that width.
constexpr std::int64_t kLanes = 16;

/// Adding and subtracting it rounds half to even, for |x| < 2²².
constexpr float kRounder = 12582912.0F;

TCOMPRESS_INLINE float roundHalfEven(float x) { return (x + kRounder) - kRounder; }

TCOMPRESS_INLINE float clamped(float x, float low, float high) {
    const float raised = x < low ? low : x;
    return raised > high ? high : raised;
}

struct Extent {
    float min = 0;
    float max = 0;
    bool finite = true;
};

/// Of a group and zero.
Extent extentOf(const float* x, std::int64_t n);

/// What is left of a group's range on either side.
struct Shares {
    float low = 1;
    float high = 1;
};

/// One way to place a group's codes: q = clamp(round(x / scale), low, high) is what is multiplied by the
/// scale; the stored code is q + zeroPoint.
struct Grid {
    float scale = 1;
    float low = 0;
    float high = 0;
    float zeroPoint = 0;
};

/// What grids of a rule have in common.
struct GridRule {
    explicit GridRule(const QuantizationRule& rule);
    Symmetry symmetry;
    bool halfScales;
    float codes;      ///< that there are
    float low, high;  ///< codes of symmetric grids
};

/// The grid that covers the given shares of the group's extent; without a branch on the group, so that
/// neighbouring groups' can be made side by side.
TCOMPRESS_INLINE Grid coveringGrid(float min, float max, const GridRule& rule, Shares shares = {}) {
    Grid grid;
    float scale = 0;
    if (rule.symmetry == Symmetry::asymmetric) {
        const float low = min * shares.low, high = max * shares.high, steps = rule.codes - 1;
        scale = high / steps - low / steps;
        if (rule.halfScales) scale = raisedToHalf(scale);
        grid.zeroPoint = clamped(roundHalfEven(clamped(-low / scale, 0.0F, rule.codes)), 0.0F, steps);
        grid.low = -grid.zeroPoint;
        grid.high = steps - grid.zeroPoint;
    } else {
        const float magnitude = (max > -min ? max : -min) * shares.high;
        const bool isBalanced = rule.symmetry == Symmetry::balanced;
        const float sign = !isBalanced && max > -min ? -1.0F : 1.0F;
        scale = sign * magnitude / (isBalanced ? rule.high : rule.codes / 2);
        if (rule.halfScales) scale = raisedToHalf(scale);
        grid.low = rule.low;
        grid.high = rule.high;
    }
    const bool fits = std::fabs(scale) > kSmallestMagnitude;
    grid.scale = fits ? scale : 1.0F;
    grid.low = fits ? grid.low : 0.0F;
    grid.high = fits ? grid.high : 0.0F;
    grid.zeroPoint = fits ? grid.zeroPoint : 0.0F;
    return grid;
}

Grid gridFor(const Extent& extent, const QuantizationRule& rule, Shares shares = {});

/// Squares, summed over a group.
struct Energy {
    double error = 0;
    double weight = 0;
};

/// Codes of a group, and what rounding lost.
Energy encode(const float* x, std::int64_t n, const Grid& grid, std::uint8_t* codes);

// Groups side by side, a column each of row-major weights, are handled by rows, in the order in which they
// lie.

/// Widens ranges by a row. False where a value is NaN or infinite.
bool widenByRow(const float* row, std::int64_t columns, float* min, float* max);

/// Grids that cover the ranges.
void coverRanges(const float* min, const float* max, std::int64_t count, const GridRule& rule, float* scale,
                 float* low, float* high, float* zeroPoint);

struct Rows {
    const float* first = nullptr;
    std::int64_t stride = 0;
};

/// Codes of rows, a grid a column, and what rounding lost.
Energy encodeRows(Rows x, std::int64_t rows, std::int64_t columns, const float* scales, const float* lows,
                  const float* highs, const float* zeroPoints, std::uint8_t* codes, std::int64_t codeStride);

}  // namespace tcompress::passes
