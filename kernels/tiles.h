#pragma once
// How a matrix product is cut into tasks: by its shape alone, never by the number of threads.

#include <algorithm>
#include <cstdint>

namespace tcompress::kernels {

constexpr std::int64_t ceilDivide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

struct Tiles {
    std::int64_t rows = 0;     // of a tile, except the last
    std::int64_t columns = 0;  // of a tile, except the last
    std::int64_t rowTiles = 0, columnTiles = 0;

    std::int64_t count() const { return rowTiles * columnTiles; }
};

/// For C[m, n] with inner size k in blocks of rowBlock × columnBlock, one of `batches` such products.
/// - Many rows: about 256 rows and 256 columns a tile, whose A and B parts stay in a 2 MiB second-level
/// cache.
/// - Few rows: columns only, at least four tiles where each is still worth waking a thread (about 10 µs of
/// work).
/// - Tiny work: one tile.
inline Tiles planTiles(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t rowBlock,
                       std::int64_t columnBlock, std::int64_t batches = 1) {
    constexpr std::int64_t kTileRows = 256, kTileColumns = 256;
    constexpr std::int64_t kWantedTasks = 4;
    constexpr double kMultiplyAddsWorthATask = 5e5;
    // Reading an element of B from memory costs as much as about this many multiply-adds on it.
    constexpr double kReadCost = 12.0;
    const std::int64_t strips = ceilDivide(m, rowBlock);
    const std::int64_t panels = ceilDivide(n, columnBlock);

    const std::int64_t rowTiles = ceilDivide(m, kTileRows);
    std::int64_t stripsPerTile = ceilDivide(strips, rowTiles);
    const double panelCost = static_cast<double>(columnBlock) *
                             static_cast<double>(std::max<std::int64_t>(k, 1)) *
                             (static_cast<double>(std::min(m, stripsPerTile * rowBlock)) + kReadCost);
    const auto fewestPanels = static_cast<std::int64_t>(kMultiplyAddsWorthATask / panelCost) + 1;
    const std::int64_t columnTiles = std::max(ceilDivide(panels * columnBlock, kTileColumns),
                                              ceilDivide(kWantedTasks, rowTiles * batches));
    const std::int64_t panelsPerTile =
        std::min(panels, std::max(fewestPanels, ceilDivide(panels, columnTiles)));
    if (panelsPerTile == panels && fewestPanels > panels)
        stripsPerTile = std::min(strips, stripsPerTile * ceilDivide(fewestPanels, panels));

    Tiles tiles;
    tiles.rows = stripsPerTile * rowBlock;
    tiles.columns = panelsPerTile * columnBlock;
    tiles.rowTiles = ceilDivide(strips, stripsPerTile);
    tiles.columnTiles = ceilDivide(panels, panelsPerTile);
    return tiles;
}

}  // namespace tcompress::kernels
