#include "kernels/native/matmul_coded_native.h"

#include <algorithm>
#include <cstring>

#include "kernels/aligned_buffer.h"
#include "kernels/native/coded_panels.h"
#include "kernels/native/gemm_kernel.h"
#include "kernels/native/matmul_coded_digits.h"
#include "kernels/native/matmul_native.h"
#include "kernels/native/vector_math.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

/// More rows than this share the decoding of a panel through the cache.
constexpr std::int64_t kFewRows = 16;
constexpr std::int64_t kStripRows = 12;
/// About as many k are decoded at a time: eight panels, 512 KiB, which stay in a second-level cache.
constexpr std::int64_t kPartOfK = 512;
/// Rows whose digits are in memory at a time take about this, but for the fewest. They share what is widened;
/// of their digits the second-level cache holds a part of k. Beside narrow codes 3 MiB would be much.
constexpr std::int64_t mostDigitBytes(int bits) { return bits == 8 ? 3 << 20 : 1 << 20; }
constexpr std::int64_t kFewestRowsAtATime = 84;

struct PaddedRows;
struct BlockSums;
struct FewSums;
struct DecodedPart;

/// A with whole groups of k, and the sums of its rows over the blocks.
struct FewRows {
    const float* a = nullptr;
    std::int64_t stride = 0;
    const float* blockSums = nullptr;
};
TCOMPRESS_MULTIVERSION float sumOf(const float* values, std::int64_t count) {
    FloatVector sums{};
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) sums += loadVector(values + i);
    if (i < count) sums += loadPart(values + i, count - i);
    return sumLanes(sums);
}
FewRows fewRows(const CodedMatmul& params) {
    const PackedCodes& weights = *params.weights;
    FewRows rows{params.a, params.aStride, nullptr};
    const std::int64_t padded = weights.groups() * weights.codesPerWord();
    if (padded != weights.k) {
        auto* copy = threadScratch<PaddedRows, float>(params.m * padded);
        for (std::int64_t row = 0; row < params.m; ++row) {
            std::copy_n(params.a + row * params.aStride, weights.k, copy + row * padded);
            std::fill(copy + row * padded + weights.k, copy + (row + 1) * padded, 0.0F);
        }
        rows.a = copy;
        rows.stride = padded;
    }
    auto* sums = threadScratch<BlockSums, float>(params.m * weights.blocks());
    for (std::int64_t row = 0; row < params.m; ++row)
        for (std::int64_t block = 0; block < weights.blocks(); ++block)
            sums[row * weights.blocks() + block] =
                sumOf(params.a + row * params.aStride + block * weights.block,
                      std::min(weights.block, weights.k - block * weights.block));
    rows.blockSums = sums;
    return rows;
}

/// Panel after panel, a few rows at a time, decoded in registers.
void multiplyFewRows(const CodedMatmul& params) {
    const PackedCodes& weights = *params.weights;
    const FewRows rows = fewRows(params);
    const auto kernel = codedKernels().multiply[codedKernelIndex(weights.bits)];
    const Tiles tiles = planTiles(params.m, weights.n, weights.k, kFewRows, kPanelColumns);
    parallelFor(tiles.count(), [&](std::int64_t index) {
        const std::int64_t first = index * tiles.columns;
        auto* sums = threadScratch<FewSums, float>(CodedPanelTask::kMostRows * kPanelColumns);
        for (std::int64_t column = first; column < std::min(first + tiles.columns, weights.n);
             column += kPanelColumns) {
            CodedPanelTask task;
            task.panel = codedPanel(weights, column / kPanelColumns);
            task.aStride = rows.stride;
            task.c = sums;
            for (std::int64_t row = 0; row < params.m; row += task.rows) {
                task.rows = std::min(CodedPanelTask::kMostRows, params.m - row);
                task.a = rows.a + row * rows.stride;
                task.blockSums = rows.blockSums + row * weights.blocks();
                kernel(task);
                finishSums(params, {row, task.rows, column, std::min(kPanelColumns, weights.n - column), sums});
            }
        }
    });
}

/// A tile of C: part after part of its columns is decoded and multiplied by all its rows.
void multiplyTile(const CodedMatmul& params, const Tiles& tiles, std::int64_t index) {
    const PackedCodes& weights = *params.weights;
    const Epilogue& epilogue = params.epilogue;
    const auto decode = codedKernels().decode[codedKernelIndex(weights.bits)];
    const PanelKernel kernel = panelKernel();
    const bool finishLater = epilogue.activation != Activation::none;
    const std::int64_t firstRow = index / tiles.columnTiles * tiles.rows;
    const std::int64_t firstColumn = index % tiles.columnTiles * tiles.columns;
    const std::int64_t rows = std::min(tiles.rows, params.m - firstRow);
    const std::int64_t columns = std::min(tiles.columns, weights.n - firstColumn);
    const std::int64_t partSize = partSizeOf(weights, kPartOfK);
    const std::int64_t panelSize = (partSize + weights.codesPerWord()) * kPanelColumns;
    auto* decoded = threadScratch<DecodedPart, float>(ceilDivide(columns, kPanelColumns) * panelSize);
    PanelTask task;
    task.aStride = params.aStride;
    task.cStride = params.cStride;
    task.alpha = epilogue.alpha;
    task.residualStride = epilogue.residualStride;
    for (std::int64_t begin = 0; begin < weights.k; begin += partSize) {
        task.k = std::min(partSize, weights.k - begin);
        for (std::int64_t column = 0; column < columns; column += kPanelColumns)
            decode({codedPanel(weights, (firstColumn + column) / kPanelColumns, begin, task.k),
                    decoded + column / kPanelColumns * panelSize});
        using Part = PanelTask::Part;
        const bool last = begin + task.k == weights.k;
        task.part = begin == 0 ? (last ? Part::only : Part::first) : last ? Part::last : Part::middle;
        std::int64_t strips = ceilDivide(rows, kStripRows);
        for (std::int64_t row = firstRow; row < firstRow + rows; row += task.rows, --strips) {
            task.rows = ceilDivide(firstRow + rows - row, strips);
            task.a = params.a + row * params.aStride + begin;
            for (std::int64_t column = 0; column < columns; column += kPanelColumns) {
                const std::int64_t at = firstColumn + column;
                task.panel = decoded + column / kPanelColumns * panelSize;
                task.columns = std::min(kPanelColumns, columns - column);
                task.c = params.c + row * params.cStride + at;
                task.bias = epilogue.bias ? epilogue.bias + at : nullptr;
                task.residual = epilogue.residual && !finishLater
                                    ? epilogue.residual + row * epilogue.residualStride + at
                                    : nullptr;
                kernel(task);
            }
            if (last && finishLater)
                finishRows(epilogue.activation, params.c + row * params.cStride + firstColumn, params.cStride,
                           epilogue.residual ? epilogue.residual + row * epilogue.residualStride + firstColumn
                                             : nullptr,
                           epilogue.residualStride, task.rows, columns);
        }
    }
}

void multiplyFloats(const CodedMatmul& params) {
    if (params.m <= kFewRows) return multiplyFewRows(params);
    const Tiles tiles = planTiles(params.m, params.weights->n, params.weights->k, kStripRows, kPanelColumns);
    parallelFor(tiles.count(), [&](std::int64_t index) { multiplyTile(params, tiles, index); });
}

}  // namespace

void matmulCodedNative(const CodedMatmul& params) {
    const std::int64_t digitBytes = 3 * std::max<std::int64_t>(1, digitsAtATime(*params.weights));
    const std::int64_t parts = ceilDivide(
        params.m, std::max(kFewestRowsAtATime, mostDigitBytes(params.weights->bits) / digitBytes));
    // Even parts: a short last one would decode the matrix for little.
    const std::int64_t atATime =
        ceilDivide(ceilDivide(params.m, std::max<std::int64_t>(1, parts)), kStripRows) * kStripRows;
    for (std::int64_t row = 0; row < params.m; row += atATime) {
        CodedMatmul part = params;
        part.a += row * params.aStride;
        part.c += row * params.cStride;
        part.m = std::min(atATime, params.m - row);
        if (part.epilogue.residual) part.epilogue.residual += row * part.epilogue.residualStride;
        if (!multiplyByDigits(part)) multiplyFloats(part);
    }
}

}  // namespace tcompress::kernels
