#pragma once
// What turns exact 32-bit sums of 8-bit products into results: zero points are taken out, then either the
// integers are the result, or they are scaled and go through bias, activation and residual to float32, or
// further to 8-bit codes.

#include <cstdint>
#include <optional>

#include "kernels/matmul_int8.h"

namespace tcompress::kernels {

/// Sums of one block, with what its rows and columns need; pointers at the block's first row or column.
struct Int8Sums {
    const std::int32_t* sums = nullptr;
    std::int64_t stride = 0;
    std::int64_t rows = 0, columns = 0;
    std::int64_t firstRow = 0, firstColumn = 0;
    /// Of A's rows; null when B has no zero points.
    const std::int32_t* rowSums = nullptr;
    /// How much larger the multiplied elements of A were than A's own.
    std::int32_t aShift = 0;
};

/// Integer results: c[row] = sums − bZero · rowSum − aZero · columnSum, wrapping around.
void correctInt8Sums(const Int8Sums& block, const PackedInt8Weights& weights,
                     std::span<const std::int32_t> aZeroPoints, std::int32_t* c, std::int64_t cStride);

/// Real results of a whole product.
struct Int8Finish {
    const std::int32_t* bZeros = nullptr;   // one a column, or null
    const std::int32_t* offsets = nullptr;  // zero point of A (shift included) · column sums of B
    const float* scales = nullptr;          // one a column
    std::optional<Int8Code> beforeBias;
    Epilogue epilogue;
    std::optional<Int8Code> result;
    void* c = nullptr;
    std::int64_t cStride = 0;
};
void finishInt8Sums(const Int8Sums& block, const Int8Finish& finish);

}  // namespace tcompress::kernels
