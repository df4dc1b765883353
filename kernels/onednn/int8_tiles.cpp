#include "kernels/onednn/int8_tiles.h"

#include <algorithm>
#include <cstring>

#include "kernels/packed_int8_weights.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels::onednn {

namespace {
struct PaddedRows;
struct TileSums;
struct RowSums;
}  // namespace

void multiplyInt8(const Int8Rows& rows, const PackedInt8Weights& weights, const Int8SumsVisitor& visit) {
    // Enough tiles to share, none so small that building primitives for it would not pay.
    const std::int64_t wanted = ceilDivide(rows.m, ceilDivide(rows.m, kInt8TileRows));
    const std::int64_t tileRows = std::min(kInt8TileRows, ceilDivide(wanted, kInt8RowStep) * kInt8RowStep);
    const std::int64_t rowTiles = ceilDivide(rows.m, tileRows);
    const auto columnTiles = static_cast<std::int64_t>(weights.blocks.size());
    const std::int64_t tileWork = tileRows * weights.blockColumns * weights.k;
    const std::int64_t grain = std::max<std::int64_t>(1, 2'000'000 / std::max<std::int64_t>(1, tileWork));
    parallelRanges(rowTiles * columnTiles, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t index = begin; index < end; ++index) {
            const std::int64_t block = index % columnTiles;
            const Int8Block& b = weights.blocks[static_cast<std::size_t>(block)];
            Int8Sums tile;
            tile.firstRow = index / columnTiles * tileRows;
            tile.firstColumn = block * weights.blockColumns;
            tile.rows = std::min(tileRows, rows.m - tile.firstRow);
            tile.columns = tile.stride = b.columns();
            const auto* a = static_cast<const std::uint8_t*>(rows.a) + tile.firstRow * rows.stride;
            if (!weights.zeroPoints.empty()) {
                auto* rowSums = threadScratch<RowSums, std::int32_t>(tileRows);
                sumInt8Rows(a, rows.type, rows.stride, tile.rows, weights.k, rowSums);
                tile.rowSums = rowSums;
            }
            // The last rows are copied to where rows may be added, so that the primitive's row count is a
            // round one.
            const std::int64_t padded = ceilDivide(tile.rows, kInt8RowStep) * kInt8RowStep;
            std::int64_t stride = rows.stride;
            if (padded != tile.rows || stride != weights.k) {
                auto* copy = threadScratch<PaddedRows, std::uint8_t>(tileRows * weights.k);
                for (std::int64_t r = 0; r < tile.rows; ++r)
                    std::memcpy(copy + r * weights.k, a + r * rows.stride,
                                static_cast<std::size_t>(weights.k));
                std::memset(copy + tile.rows * weights.k, 0,
                            static_cast<std::size_t>((padded - tile.rows) * weights.k));
                a = copy;
                stride = weights.k;
            }
            auto* sums = threadScratch<TileSums, std::int32_t>(tileRows * tile.columns);
            b.multiply(a, rows.type, stride, padded, sums);
            tile.sums = sums;
            visit(tile);
        }
    });
}

}  // namespace tcompress::kernels::onednn
