#include "kernels/gram.h"

#include <algorithm>

#include "kernels/aligned_buffer.h"
#include "kernels/matmul.h"
#include "kernels/tiles.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

/// A product of so many terms in float32 has a relative error below that of the data themselves.
constexpr std::int64_t kChunkRows = 512;
constexpr std::int64_t kTile = 256;

/// sums[i, j] (rows `stride` apart) += Σ over rows of x[·, i] · y[·, j], i < n, j < m ≤ kTile. Serial.
void accumulateTile(const float* x, std::int64_t xStride, std::int64_t n, const float* y,
                    std::int64_t yStride, std::int64_t m, std::int64_t rows, double* sums,
                    std::int64_t stride) {
    float* part = threadScratch<class TileProduct, float>(kTile * kTile);
    for (std::int64_t row = 0; row < rows; row += kChunkRows) {
        BatchedMatmul product;
        product.m = n;
        product.n = m;
        product.k = std::min(kChunkRows, rows - row);
        product.a = x + row * xStride;
        product.aRowStride = 1;
        product.aColumnStride = xStride;
        product.b = y + row * yStride;
        product.bRowStride = yStride;
        product.c = part;
        product.cRowStride = m;
        matmul(product);
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = 0; j < m; ++j) sums[i * stride + j] += part[i * m + j];
    }
}

}  // namespace

void accumulateGram(std::span<const float> x, std::int64_t rows, std::int64_t n, std::span<double> gram) {
    TCOMPRESS_CHECK(static_cast<std::int64_t>(x.size()) == rows * n, "accumulateGram: the values do not fill X");
    TCOMPRESS_CHECK(static_cast<std::int64_t>(gram.size()) == n * n, "accumulateGram: the sums are not [n, n]");
    const std::int64_t tiles = ceilDivide(n, kTile);
    parallelFor(tiles * (tiles + 1) / 2, [&](std::int64_t index) {
        // Tiles on and above the diagonal, row by row; those below are their mirror images.
        std::int64_t tileRow = 0;
        while (index >= tiles - tileRow) index -= tiles - tileRow++;
        const std::int64_t i = tileRow * kTile, j = i + index * kTile;
        const std::int64_t height = std::min(kTile, n - i), width = std::min(kTile, n - j);
        accumulateTile(x.data() + i, n, height, x.data() + j, n, width, rows, gram.data() + i * n + j, n);
        if (i == j) return;
        for (std::int64_t row = 0; row < height; ++row)
            for (std::int64_t column = 0; column < width; ++column)
                gram[static_cast<std::size_t>((j + column) * n + i + row)] =
                    gram[static_cast<std::size_t>((i + row) * n + j + column)];
    });
}

void accumulateCross(std::span<const float> x, std::span<const float> y, std::int64_t rows, std::int64_t n,
                     std::int64_t m, std::span<double> cross) {
    TCOMPRESS_CHECK(static_cast<std::int64_t>(x.size()) == rows * n, "accumulateCross: the values do not fill X");
    TCOMPRESS_CHECK(static_cast<std::int64_t>(y.size()) == rows * m, "accumulateCross: the values do not fill Y");
    TCOMPRESS_CHECK(static_cast<std::int64_t>(cross.size()) == n * m, "accumulateCross: the sums are not [n, m]");
    const std::int64_t columnTiles = ceilDivide(m, kTile);
    parallelFor(ceilDivide(n, kTile) * columnTiles, [&](std::int64_t index) {
        const std::int64_t i = index / columnTiles * kTile, j = index % columnTiles * kTile;
        accumulateTile(x.data() + i, n, std::min(kTile, n - i), y.data() + j, m, std::min(kTile, m - j), rows,
                       cross.data() + i * m + j, m);
    });
}

}  // namespace tcompress::kernels
