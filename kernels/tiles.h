#pragma once
// How a matrix product is cut into tasks: by its shape alone, never by the number of threads.

#include <algorithm>
#include <cstdint>

namespace tcompress::kernels {

constexpr std::int64_t ceilDivide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Rows of a tile when each tile has to pack its part of B first.
constexpr std::int64_t kRowsWorthPackingAgain = 512;

/// About 10 µs of work: less is not worth handing to another thread.
constexpr double kMultiplyAddsWorthATask = 5e5;

struct Tiles {
    std::int64_t rows = 0;     // of a tile, except the last
    std::int64_t columns = 0;  // of a tile, except the last
    std::int64_t rowTiles = 0, columnTiles = 0;

    std::int64_t count() const { return rowTiles * columnTiles; }

    struct Corner {
        std::int64_t row = 0, column = 0;
    };
    /// The order of the tiles: a quarter of the rows after the other, so that a thread that gets one range of all
    /// products of a model reads what it wrote itself; within it, all rows of some columns before the next columns, so
    /// that B is read from memory once.
    Corner corner(std::int64_t index) const {
        const std::int64_t groupRows = ceilDivide(rowTiles, kRowGroups);
        const std::int64_t group = index / (groupRows * columnTiles);
        const std::int64_t rowsHere = std::min(groupRows, rowTiles - group * groupRows);
        const std::int64_t within = index - group * groupRows * columnTiles;
        return {(group * groupRows + within % rowsHere) * rows, within / rowsHere * columns};
    }

  private:
    static constexpr std::int64_t kRowGroups = 4;
};

/// For C[m, n] with inner size k in blocks of rowBlock × columnBlock, one of `batches` such products.
/// - Many rows: about `tileRows` rows and 256 columns a tile, whose B part stays in the second-level cache; an even
/// number of tiles of rows.
/// - A small B: rows only, at least four tiles where each is still worth waking a thread.
/// - Few rows: columns only, as many.
/// - Tiny work: one tile.
inline Tiles planTiles(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t rowBlock,
                       std::int64_t columnBlock, std::int64_t batches = 1, std::int64_t tileRows = 256) {
    constexpr std::int64_t kTileColumns = 256;
    constexpr std::int64_t kWantedTasks = 4;
    constexpr std::int64_t kSmallElements = 65536;
    // Reading an element of B from memory costs as much as about this many multiply-adds on it.
    constexpr double kReadCost = 12.0;
    const std::int64_t strips = ceilDivide(m, rowBlock);
    const std::int64_t panels = ceilDivide(n, columnBlock);
    const auto panelCost = [&](std::int64_t rows) {
        return static_cast<double>(columnBlock) * static_cast<double>(std::max<std::int64_t>(k, 1)) *
               (static_cast<double>(std::min(m, rows)) + kReadCost);
    };

    std::int64_t rowTiles = ceilDivide(m, tileRows);
    if (k * n <= kSmallElements) rowTiles = std::max(rowTiles, ceilDivide(kWantedTasks, batches));
    if (rowTiles > 1) rowTiles += rowTiles % 2;
    std::int64_t stripsPerTile = ceilDivide(strips, rowTiles);
    const double rowTileCost = static_cast<double>(panels) * panelCost(stripsPerTile * rowBlock);
    const auto fewest = static_cast<std::int64_t>(kMultiplyAddsWorthATask / rowTileCost) + 1;
    stripsPerTile = std::min(strips, stripsPerTile * fewest);
    rowTiles = ceilDivide(strips, stripsPerTile);

    const auto fewestPanels =
        static_cast<std::int64_t>(kMultiplyAddsWorthATask / panelCost(stripsPerTile * rowBlock)) + 1;
    const std::int64_t columnTiles =
        std::max(ceilDivide(panels * columnBlock, kTileColumns), ceilDivide(kWantedTasks, rowTiles * batches));
    const std::int64_t panelsPerTile =
        std::min(panels, std::max(fewestPanels, ceilDivide(panels, columnTiles)));

    Tiles tiles;
    tiles.rows = stripsPerTile * rowBlock;
    tiles.columns = panelsPerTile * columnBlock;
    tiles.rowTiles = rowTiles;
    tiles.columnTiles = ceilDivide(panels, panelsPerTile);
    return tiles;
}

}  // namespace tcompress::kernels
