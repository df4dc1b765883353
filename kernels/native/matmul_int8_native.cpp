#include "kernels/native/matmul_int8_native.h"

#include <algorithm>
#include <cstring>

#include "kernels/aligned_buffer.h"
#include "kernels/multiversion.h"
#include "kernels/native/int8_kernel.h"
#include "kernels/packed_int8_weights.h"
#include "kernels/tiles.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kStripRows = 12;

struct StripSums;
struct StripRows;

template <class A>
TCOMPRESS_INLINE void sumRows(const A* a, std::int64_t stride, std::int64_t rows, std::int64_t k,
                              std::int32_t* sums) {
    for (std::int64_t row = 0; row < rows; ++row) {
        std::int32_t sum = 0;
        for (std::int64_t i = 0; i < k; ++i) sum += a[row * stride + i];
        sums[row] = sum;
    }
}
TCOMPRESS_MULTIVERSION void sumUnsigned(const std::uint8_t* a, std::int64_t stride, std::int64_t rows,
                                        std::int64_t k, std::int32_t* sums) {
    sumRows(a, stride, rows, k, sums);
}
TCOMPRESS_MULTIVERSION void sumSigned(const std::int8_t* a, std::int64_t stride, std::int64_t rows,
                                      std::int64_t k, std::int32_t* sums) {
    sumRows(a, stride, rows, k, sums);
}

TCOMPRESS_MULTIVERSION void copyFlipped(const std::uint8_t* source, std::int64_t count, std::uint8_t flip,
                                        std::uint8_t* target) {
    for (std::int64_t i = 0; i < count; ++i) target[i] = source[i] ^ flip;
}

/// Rows of uint8 whose last group is whole: A's own, or a copy.
struct Strip {
    const std::uint8_t* rows = nullptr;
    std::int64_t stride = 0;
};
Strip stripOf(const Int8Rows& rows, std::int64_t first, std::int64_t count, std::int64_t k) {
    const auto* source = static_cast<const std::uint8_t*>(rows.a) + first * rows.stride;
    if (rows.type == DType::uint8 && k % kInt8Group == 0) return {source, rows.stride};
    const std::int64_t stride = ceilDivide(k, kInt8Group) * kInt8Group;
    auto* copy = threadScratch<StripRows, std::uint8_t>(count * stride);
    for (std::int64_t row = 0; row < count; ++row) {
        copyFlipped(source + row * rows.stride, k, rows.type == DType::int8 ? 0x80 : 0, copy + row * stride);
        std::memset(copy + row * stride + k, 0, static_cast<std::size_t>(stride - k));
    }
    return {copy, stride};
}

}  // namespace

void sumInt8Rows(const std::uint8_t* a, DType type, std::int64_t stride, std::int64_t rows, std::int64_t k,
                 std::int32_t* sums) {
    if (type == DType::uint8)
        sumUnsigned(a, stride, rows, k, sums);
    else
        sumSigned(reinterpret_cast<const std::int8_t*>(a), stride, rows, k, sums);
}

void multiplyInt8Native(const Int8Rows& rows, const PackedInt8Weights& weights,
                        const Int8SumsVisitor& visit) {
    // Four 8-bit values are read and multiplied in the time of one float, so a group counts as one value of
    // k.
    const std::int64_t groups = ceilDivide(weights.k, kInt8Group);
    const Tiles tiles = planTiles(rows.m, weights.n, groups, kStripRows, kInt8PanelColumns);
    const Int8PanelKernel kernel = int8PanelKernel();
    parallelFor(tiles.count(), [&](std::int64_t index) {
        const std::int64_t firstRow = index / tiles.columnTiles * tiles.rows;
        const std::int64_t tileRows = std::min(tiles.rows, rows.m - firstRow);
        Int8Sums block;
        block.firstColumn = index % tiles.columnTiles * tiles.columns;
        block.columns = std::min(tiles.columns, weights.n - block.firstColumn);
        block.aShift = rows.type == DType::int8 ? 128 : 0;
        block.stride = ceilDivide(block.columns, kInt8PanelColumns) * kInt8PanelColumns;
        auto* sums = threadScratch<StripSums, std::int32_t>(kStripRows * (block.stride + 1));
        block.sums = sums;
        Int8PanelTask task;
        task.groups = groups;
        task.sumsStride = block.stride;
        std::int64_t strips = ceilDivide(tileRows, kStripRows);
        for (std::int64_t row = 0; row < tileRows; row += block.rows, --strips) {
            block.firstRow = firstRow + row;
            block.rows =
                ceilDivide(tileRows - row, strips);  // even strips: a short last one would run slowly
            const Strip strip = stripOf(rows, block.firstRow, block.rows, weights.k);
            task.a = strip.rows;
            task.aStride = strip.stride;
            task.rows = block.rows;
            for (std::int64_t column = 0; column < block.columns; column += kInt8PanelColumns) {
                const bool another = row == 0 && column + kInt8PanelColumns < block.columns;
                task.panel = weights.panel((block.firstColumn + column) / kInt8PanelColumns);
                task.prefetch = another ? weights.panelBytes() : 0;
                task.sums = sums + column;
                kernel(task);
            }
            if (!weights.zeroPoints.empty()) {
                std::int32_t* rowSums = sums + kStripRows * block.stride;
                sumInt8Rows(strip.rows, DType::uint8, strip.stride, block.rows, weights.k, rowSums);
                block.rowSums = rowSums;
            }
            visit(block);
        }
    });
}

}  // namespace tcompress::kernels
