#include "kernels/gram.h"

#include <algorithm>

#include "kernels/aligned_buffer.h"
#include "kernels/matmul.h"
#include "kernels/native/gemm_kernel.h"
#include "kernels/native/transpose_matrix.h"
#include "kernels/tiles.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

/// A product of so many terms in float32 has a relative error below that of the data themselves.
constexpr std::int64_t kChunkRows = 512;

/// Width of a tile: at most 256, so that its operands stay in the second-level cache, and small enough for
/// several tiles even where there are few columns.
std::int64_t tileWidth(std::int64_t columns) {
    return std::clamp<std::int64_t>(ceilDivide(columns, 3 * kPanelColumns) * kPanelColumns, 64, 256);
}

/// Columns of a chunk of rows as rows: each tile reads its part, so they are turned once and not once for
/// each tile.
const float* transposed(const float* x, std::int64_t rows, std::int64_t n) {
    float* columns = threadScratch<class Transposed, float>(n * rows);
    parallelRanges(n, kPanelColumns, [&](std::int64_t begin, std::int64_t end) {
        transposeMatrix(x + begin, n, rows, end - begin, columns + begin * rows, rows);
    });
    return columns;
}

/// A tile of sums: sums[i, j] += Σ over rows of columns[i, ·] · y[·, j].
struct Tile {
    std::int64_t height = 0, width = 0, rows = 0;
    const float* columns = nullptr;  // [height, rows], dense
    const float* y = nullptr;        // [rows, width], yStride apart
    std::int64_t yStride = 0;
    double* sums = nullptr;  // [height, width], sumsStride apart
    std::int64_t sumsStride = 0;
};

void addTile(const Tile& tile) {
    float* part = threadScratch<class TileProduct, float>(tile.height * tile.width);
    BatchedMatmul product;
    product.m = tile.height;
    product.n = tile.width;
    product.k = tile.rows;
    product.a = tile.columns;
    product.aRowStride = tile.rows;
    product.b = tile.y;
    product.bRowStride = tile.yStride;
    product.c = part;
    product.cRowStride = tile.width;
    matmul(product);
    for (std::int64_t i = 0; i < tile.height; ++i)
        for (std::int64_t j = 0; j < tile.width; ++j)
            tile.sums[i * tile.sumsStride + j] += part[i * tile.width + j];
}

/// In squares of one cache line: rows are often a multiple of 4 KiB apart, so that few of them fit the
/// first-level cache.
void mirror(double* sums, std::int64_t n, std::int64_t i, std::int64_t height, std::int64_t j,
            std::int64_t width) {
    constexpr std::int64_t kSquare = 8;
    for (std::int64_t row = i; row < i + height; row += kSquare)
        for (std::int64_t column = j; column < j + width; column += kSquare)
            for (std::int64_t c = column; c < std::min(column + kSquare, j + width); ++c)
                for (std::int64_t r = row; r < std::min(row + kSquare, i + height); ++r)
                    sums[c * n + r] = sums[r * n + c];
}

}  // namespace

void accumulateGram(std::span<const float> x, std::int64_t rows, std::int64_t n, std::span<double> gram) {
    TCOMPRESS_CHECK(static_cast<std::int64_t>(x.size()) == rows * n,
                    "accumulateGram: the values do not fill X");
    TCOMPRESS_CHECK(static_cast<std::int64_t>(gram.size()) == n * n,
                    "accumulateGram: the sums are not [n, n]");
    const std::int64_t step = tileWidth(n), tiles = ceilDivide(n, step);
    for (std::int64_t row = 0; row < rows; row += kChunkRows) {
        const std::int64_t count = std::min(kChunkRows, rows - row);
        const float* chunk = x.data() + row * n;
        const float* columns = transposed(chunk, count, n);
        const bool isLast = row + count == rows;
        parallelFor(tiles * (tiles + 1) / 2, [&](std::int64_t index) {
            // Tiles on and above the diagonal, row by row; those below are their mirror images.
            std::int64_t tileRow = 0;
            while (index >= tiles - tileRow) index -= tiles - tileRow++;
            const std::int64_t i = tileRow * step, j = i + index * step;
            const std::int64_t height = std::min(step, n - i), width = std::min(step, n - j);
            addTile({height, width, count, columns + i * count, chunk + j, n, gram.data() + i * n + j, n});
            if (isLast && i != j) mirror(gram.data(), n, i, height, j, width);
        });
    }
}

void accumulateCross(std::span<const float> x, std::span<const float> y, std::int64_t rows, std::int64_t n,
                     std::int64_t m, std::span<double> cross) {
    TCOMPRESS_CHECK(static_cast<std::int64_t>(x.size()) == rows * n,
                    "accumulateCross: the values do not fill X");
    TCOMPRESS_CHECK(static_cast<std::int64_t>(y.size()) == rows * m,
                    "accumulateCross: the values do not fill Y");
    TCOMPRESS_CHECK(static_cast<std::int64_t>(cross.size()) == n * m,
                    "accumulateCross: the sums are not [n, m]");
    const std::int64_t rowStep = tileWidth(n), columnStep = tileWidth(m);
    const std::int64_t columnTiles = ceilDivide(m, columnStep);
    for (std::int64_t row = 0; row < rows; row += kChunkRows) {
        const std::int64_t count = std::min(kChunkRows, rows - row);
        const float* columns = transposed(x.data() + row * n, count, n);
        parallelFor(ceilDivide(n, rowStep) * columnTiles, [&](std::int64_t index) {
            const std::int64_t i = index / columnTiles * rowStep, j = index % columnTiles * columnStep;
            addTile({std::min(rowStep, n - i), std::min(columnStep, m - j), count, columns + i * count,
                     y.data() + row * m + j, m, cross.data() + i * m + j, m});
        });
    }
}

}  // namespace tcompress::kernels
