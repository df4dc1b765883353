#include "kernels/native/matmul_native.h"

#include <algorithm>

#include "kernels/native/gemm_kernel.h"
#include "kernels/native/transpose_matrix.h"
#include "kernels/native/vector_math.h"
#include "kernels/packed_weights.h"
#include "kernels/tiles.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kStripRows = 12;
/// K is taken in parts of about this size: twelve rows of A then fit the first-level cache.
constexpr std::int64_t kPartOfK = 768;
/// Fewer rows than this do not pay for packing a B whose rows are contiguous.
constexpr std::int64_t kRowsWorthPacking = 16;

struct PackForCall;
struct RowsOfA;

/// Where the panels of a tile's B are.
struct Panels {
    const float* first = nullptr;
    std::int64_t distance = 0;  // between panels
    std::int64_t rowStride = kPanelColumns;
};

struct TileTask {
    const float* a = nullptr;
    std::int64_t aStride = 0;
    std::int64_t rows = 0, columns = 0, k = 0;
    Panels b;
    bool prefetch = false;  // B comes from memory
    float* c = nullptr;
    std::int64_t cStride = 0;
    Epilogue epilogue;  // pointers already moved to this tile
};

void runTile(const TileTask& tile) {
    const PanelKernel kernel = panelKernel();
    const Epilogue& epilogue = tile.epilogue;
    const bool finishLater = epilogue.activation != Activation::none;
    // A residual that is C itself would be gone behind the first part of K: every part is added to C as it is.
    const bool addsToC = epilogue.residual == tile.c;
    TCOMPRESS_CHECK(!addsToC || !finishLater, "C is its own residual, and an activation stands before it");
    const std::int64_t parts = std::max<std::int64_t>(1, ceilDivide(tile.k, kPartOfK));
    const std::int64_t partSize = ceilDivide(tile.k, parts);
    for (std::int64_t part = 0; part < parts; ++part) {
        const std::int64_t begin = part * partSize;
        PanelTask task;
        task.aStride = tile.aStride;
        task.k = std::min(partSize, tile.k - begin);
        task.panelStride = tile.b.rowStride;
        task.cStride = tile.cStride;
        task.alpha = epilogue.alpha;
        task.residualStride = epilogue.residualStride;
        using Part = PanelTask::Part;
        const bool last = part == parts - 1;
        task.part = parts == 1 || addsToC ? Part::only : part == 0 ? Part::first : last ? Part::last : Part::middle;
        std::int64_t strips = ceilDivide(tile.rows, kStripRows);
        for (std::int64_t row = 0; row < tile.rows; row += task.rows, --strips) {
            task.a = tile.a + row * tile.aStride + begin;
            task.rows =
                ceilDivide(tile.rows - row, strips);  // even strips: a short last one would run slowly
            for (std::int64_t column = 0; column < tile.columns; column += kPanelColumns) {
                task.panel =
                    tile.b.first + column / kPanelColumns * tile.b.distance + begin * tile.b.rowStride;
                task.columns = std::min(kPanelColumns, tile.columns - column);
                const bool another = column + kPanelColumns < tile.columns;
                task.next = tile.prefetch && row == 0 && another ? task.panel + tile.b.distance : nullptr;
                task.c = tile.c + row * tile.cStride + column;
                task.bias = epilogue.bias && (last || !addsToC) ? epilogue.bias + column : nullptr;
                task.residual = epilogue.residual && !finishLater
                                    ? epilogue.residual + row * epilogue.residualStride + column
                                    : nullptr;
                kernel(task);
            }
            if (last && finishLater)
                finishRows(epilogue.activation, tile.c + row * tile.cStride, tile.cStride,
                           epilogue.residual ? epilogue.residual + row * epilogue.residualStride : nullptr,
                           epilogue.residualStride, task.rows, tile.columns);
        }
    }
}

Epilogue movedTo(const Epilogue& epilogue, std::int64_t row, std::int64_t column) {
    Epilogue moved = epilogue;
    if (moved.bias) moved.bias += column;
    if (moved.residual) moved.residual += row * epilogue.residualStride + column;
    return moved;
}

TCOMPRESS_MULTIVERSION void activateRows(Activation activation, float* c, std::int64_t cStride,
                                         const float* residual, std::int64_t residualStride,
                                         std::int64_t rows, std::int64_t columns) {
    dispatchActivation(
        activation, [&]<Activation kActivation>() __attribute__((always_inline)) {
            for (std::int64_t row = 0; row < rows; ++row) {
                float* y = c + row * cStride;
                const float* add = residual ? residual + row * residualStride : nullptr;
                std::int64_t i = 0;
                for (; i + kLanes <= columns; i += kLanes) {
                    FloatVector value = activateVector<kActivation>(loadVector(y + i));
                    if (add) value += loadVector(add + i);
                    storeVector(y + i, value);
                }
                if (i < columns) {
                    FloatVector value = activateVector<kActivation>(loadPart(y + i, columns - i));
                    if (add) value += loadPart(add + i, columns - i);
                    storePart(y + i, value, columns - i);
                }
            }
        });
}

/// The offset of batch number `index` in units of elements.
std::int64_t batchOffset(std::int64_t index, const std::vector<std::int64_t>& batch,
                         const std::vector<std::int64_t>& strides) {
    std::int64_t offset = 0;
    for (std::size_t d = batch.size(); d-- > 0; index /= batch[d]) offset += index % batch[d] * strides[d];
    return offset;
}

/// B's columns [column, column + columns) as panels: where they are, when whole panels can be read in place,
/// else packed into this thread's scratch.
Panels panelsOf(const BatchedMatmul& params, const float* b, std::int64_t columns) {
    const bool readable = params.bColumnStride == 1 && columns % kPanelColumns == 0;
    if (readable && params.m < kRowsWorthPacking) return {b, kPanelColumns, params.bRowStride};
    const std::int64_t size = params.k * kPanelColumns;
    float* packed = threadScratch<PackForCall, float>(ceilDivide(columns, kPanelColumns) * size);
    for (std::int64_t column = 0; column < columns; column += kPanelColumns)
        packPanel(b + column * params.bColumnStride, params.k, std::min(kPanelColumns, columns - column),
                  params.bRowStride, params.bColumnStride, packed + column / kPanelColumns * size);
    return {packed, size, kPanelColumns};
}

/// A's rows with contiguous elements: in place, or copied into this thread's scratch.
const float* contiguousRows(const BatchedMatmul& params, const float* a, std::int64_t rows,
                            std::int64_t& stride) {
    stride = params.aRowStride;
    if (params.aColumnStride == 1 || params.k <= 1) return a;
    float* copy = threadScratch<RowsOfA, float>(rows * params.k);
    if (params.aRowStride == 1) {
        transposeMatrix(a, params.aColumnStride, params.k, rows, copy, params.k);
    } else {
        for (std::int64_t row = 0; row < rows; ++row)
            for (std::int64_t k = 0; k < params.k; ++k)
                copy[row * params.k + k] = a[row * params.aRowStride + k * params.aColumnStride];
    }
    stride = params.k;
    return copy;
}

}  // namespace

void finishRows(Activation activation, float* c, std::int64_t cStride, const float* residual,
                std::int64_t residualStride, std::int64_t rows, std::int64_t columns) {
    activateRows(activation, c, cStride, residual, residualStride, rows, columns);
}

void matmulNative(const PackedMatmul& params) {
    const PackedWeights& weights = *params.weights;
    const Tiles tiles = planTiles(params.m, weights.n(), weights.k(), kStripRows, kPanelColumns);
    parallelFor(tiles.count(), [&](std::int64_t index) {
        const auto [row, column] = tiles.corner(index);
        TileTask tile;
        tile.a = params.a + row * params.aStride;
        tile.aStride = params.aStride;
        tile.rows = std::min(tiles.rows, params.m - row);
        tile.columns = std::min(tiles.columns, weights.n() - column);
        tile.k = weights.k();
        tile.b = {weights.panel(column / kPanelColumns), weights.k() * kPanelColumns, kPanelColumns};
        tile.prefetch = true;
        tile.c = params.c + row * params.cStride + column;
        tile.cStride = params.cStride;
        tile.epilogue = movedTo(params.epilogue, row, column);
        runTile(tile);
    });
}

void matmulNative(const BatchedMatmul& params) {
    std::int64_t batches = 1;
    for (const std::int64_t size : params.batch) batches *= size;
    const Tiles tiles = planTiles(params.m, params.n, params.k, kStripRows, kPanelColumns, batches,
                                  kRowsWorthPackingAgain);
    // Small products share a task: about as much work as one tile of a large one.
    const auto work = static_cast<double>(std::max<std::int64_t>(1, params.m * params.n * params.k));
    const std::int64_t grain =
        tiles.count() > 1 ? 1 : std::clamp<std::int64_t>(static_cast<std::int64_t>(5e5 / work), 1, batches);
    parallelRanges(batches * tiles.count(), grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t index = begin; index < end; ++index) {
            const std::int64_t batch = index / tiles.count();
            const auto [row, column] = tiles.corner(index % tiles.count());
            TileTask tile;
            tile.rows = std::min(tiles.rows, params.m - row);
            tile.columns = std::min(tiles.columns, params.n - column);
            tile.k = params.k;
            const float* a =
                params.a + batchOffset(batch, params.batch, params.aBatchStrides) + row * params.aRowStride;
            tile.a = contiguousRows(params, a, tile.rows, tile.aStride);
            const float* b = params.b + batchOffset(batch, params.batch, params.bBatchStrides) +
                             column * params.bColumnStride;
            tile.b = panelsOf(params, b, tile.columns);
            const std::int64_t cOffset = batchOffset(batch, params.batch, params.cBatchStrides);
            tile.c = params.c + cOffset + row * params.cRowStride + column;
            tile.cStride = params.cRowStride;
            Epilogue epilogue = params.epilogue;
            epilogue.residualStride = params.cRowStride;
            if (epilogue.residual) epilogue.residual += cOffset;
            tile.epilogue = movedTo(epilogue, row, column);
            runTile(tile);
        }
    });
}

}  // namespace tcompress::kernels
