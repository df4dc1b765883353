#include "kernels/native/transpose_matrix.h"

#include <cstring>

#include "kernels/multiversion.h"

namespace tcompress::kernels {

namespace {

using Vector = float __attribute__((vector_size(32)));
using Index = std::int32_t __attribute__((vector_size(32)));
constexpr int kSide = 8;

/// Pairs, then pairs of pairs, then halves change places.
template <class Element>
TCOMPRESS_INLINE void transposeSquare(const Element* x, std::int64_t xStride, Element* y, std::int64_t yStride) {
    Vector row[kSide];
    Vector mixed[kSide];
    for (int i = 0; i < kSide; ++i) std::memcpy(&row[i], x + i * xStride, sizeof(Vector));
    constexpr Index kLowPairs = {0, 8, 1, 9, 4, 12, 5, 13};
    constexpr Index kHighPairs = {2, 10, 3, 11, 6, 14, 7, 15};
    for (int i = 0; i < kSide; i += 2) {
        mixed[i] = __builtin_shuffle(row[i], row[i + 1], kLowPairs);
        mixed[i + 1] = __builtin_shuffle(row[i], row[i + 1], kHighPairs);
    }
    constexpr Index kLowQuads = {0, 1, 8, 9, 4, 5, 12, 13};
    constexpr Index kHighQuads = {2, 3, 10, 11, 6, 7, 14, 15};
    for (int i = 0; i < kSide; i += 4) {
        row[i] = __builtin_shuffle(mixed[i], mixed[i + 2], kLowQuads);
        row[i + 1] = __builtin_shuffle(mixed[i], mixed[i + 2], kHighQuads);
        row[i + 2] = __builtin_shuffle(mixed[i + 1], mixed[i + 3], kLowQuads);
        row[i + 3] = __builtin_shuffle(mixed[i + 1], mixed[i + 3], kHighQuads);
    }
    constexpr Index kLowHalves = {0, 1, 2, 3, 8, 9, 10, 11};
    constexpr Index kHighHalves = {4, 5, 6, 7, 12, 13, 14, 15};
    for (int i = 0; i < kSide / 2; ++i) {
        mixed[i] = __builtin_shuffle(row[i], row[i + 4], kLowHalves);
        mixed[i + 4] = __builtin_shuffle(row[i], row[i + 4], kHighHalves);
    }
    for (int i = 0; i < kSide; ++i) std::memcpy(y + i * yStride, &mixed[i], sizeof(Vector));
}

template <class Element>
TCOMPRESS_INLINE void transpose(const Element* x, std::int64_t xStride, std::int64_t rows, std::int64_t columns,
                                Element* y, std::int64_t yStride) {
    const std::int64_t wholeColumns = columns / kSide * kSide;
    // Two squares above each other fill whole cache lines of y, whose rows are often a power of two apart and push each
    // other out of the cache.
    const auto transposeStrip = [&](std::int64_t first, std::int64_t squares) __attribute__((always_inline)) {
        for (std::int64_t j = 0; j < wholeColumns; j += kSide)
            for (std::int64_t square = 0; square < squares; ++square) {
                const std::int64_t row = first + square * kSide;
                transposeSquare(x + row * xStride + j, xStride, y + j * yStride + row, yStride);
            }
        for (std::int64_t j = wholeColumns; j < columns; ++j)
            for (std::int64_t row = first; row < first + squares * kSide; ++row)
                y[j * yStride + row] = x[row * xStride + j];
    };
    std::int64_t i = 0;
    for (; i + 2 * kSide <= rows; i += 2 * kSide) transposeStrip(i, 2);
    for (; i + kSide <= rows; i += kSide) transposeStrip(i, 1);
    for (; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j) y[j * yStride + i] = x[i * xStride + j];
}

}  // namespace

TCOMPRESS_MULTIVERSION void transposeMatrix(const float* x, std::int64_t xStride, std::int64_t rows,
                                            std::int64_t columns, float* y, std::int64_t yStride) {
    transpose(x, xStride, rows, columns, y, yStride);
}
TCOMPRESS_MULTIVERSION void transposeMatrix(const std::uint32_t* x, std::int64_t xStride, std::int64_t rows,
                                            std::int64_t columns, std::uint32_t* y, std::int64_t yStride) {
    transpose(x, xStride, rows, columns, y, yStride);
}

}  // namespace tcompress::kernels
