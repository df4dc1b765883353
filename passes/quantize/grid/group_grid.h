#pragma once
// The grid of one group of weights that covers a given part of its range, and the codes on it.

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

/// The grid that covers the given shares of the group's extent.
Grid gridFor(const Extent& extent, const QuantizationRule& rule, Shares shares = {});

/// Squares, summed over a group.
struct Energy {
    double error = 0;
    double weight = 0;
};

/// Codes of a group, and what rounding lost.
Energy encode(const float* x, std::int64_t n, const Grid& grid, std::uint8_t* codes);

/// Sixteen columns of a row-major matrix at a time, a lane each: groups that run down columns need not be copied
/// side by side.
struct ColumnExtents {
    float low[kLanes] = {}, high[kLanes] = {};
};

/// False where a value is NaN or infinite.
bool columnExtents(const float* x, std::int64_t n, std::int64_t stride, ColumnExtents& extents);

struct ColumnGrids {
    float scale[kLanes], low[kLanes], high[kLanes], zeroPoint[kLanes];
};

Energy encodeColumns(const float* x, std::int64_t n, std::int64_t stride, const ColumnGrids& grids, std::uint8_t* codes);

}  // namespace tcompress::passes
