#include "kernels/native/matmul_coded_native.h"

#include <algorithm>
#include <cstring>

#include "kernels/aligned_buffer.h"
#include "kernels/native/coded_kernel.h"
#include "kernels/native/digits.h"
#include "kernels/native/gemm_kernel.h"
#include "kernels/native/matmul_native.h"
#include "kernels/packed_codes.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

/// More rows than this share the decoding of a panel through the cache.
constexpr std::int64_t kFewRows = 16;
constexpr std::int64_t kStripRows = 12;
/// About as many k are decoded at a time: eight panels, 512 KiB, which stay in a second-level cache.
constexpr std::int64_t kPartOfK = 512;

struct PaddedRows;
struct BlockSums;
struct Digits;
struct FewSums;
struct DecodedPart;

/// alpha, bias, activation and residual of one row's columns from `column` on.
void finishPanelRow(const CodedMatmul& params, std::int64_t row, std::int64_t column, std::int64_t columns,
                    const float* sums) {
    const Epilogue& epilogue = params.epilogue;
    float* c = params.c + row * params.cStride + column;
    for (std::int64_t i = 0; i < columns; ++i)
        c[i] = sums[i] * epilogue.alpha + (epilogue.bias ? epilogue.bias[column + i] : 0.0F);
    const float* residual =
        epilogue.residual ? epilogue.residual + row * epilogue.residualStride + column : nullptr;
    if (epilogue.activation != Activation::none || residual)
        finishRows(epilogue.activation, c, params.cStride, residual, epilogue.residualStride, 1, columns);
}

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

/// What a panel task of either kind takes from the weights.
template <class Task>
Task panelTask(const PackedCodes& weights, std::int64_t panel, float* c) {
    Task task;
    task.words = weights.panel(panel);
    task.scales = weights.panelScales(panel);
    task.zeros = weights.panelZeros(panel);
    task.zero = weights.zero;
    task.groups = weights.groups();
    task.groupsPerBlock = weights.block / weights.codesPerWord();
    task.blocks = weights.blocks();
    task.c = c;
    return task;
}

/// Panel after panel, at most Task::kMostRows rows at a time: run(task, first row) computes task.c.
template <class Task, class Run>
void forEachPanel(const CodedMatmul& params, const Run& run) {
    const PackedCodes& weights = *params.weights;
    const Tiles tiles = planTiles(params.m, weights.n, weights.k, kFewRows, kPanelColumns);
    parallelFor(tiles.count(), [&](std::int64_t index) {
        const std::int64_t first = index * tiles.columns;
        auto* sums = threadScratch<FewSums, float>(Task::kMostRows * kPanelColumns);
        for (std::int64_t column = first; column < std::min(first + tiles.columns, weights.n);
             column += kPanelColumns) {
            Task task = panelTask<Task>(weights, column / kPanelColumns, sums);
            for (std::int64_t row = 0; row < params.m; row += task.rows) {
                task.rows = std::min(Task::kMostRows, params.m - row);
                run(task, row);
                for (std::int64_t r = 0; r < task.rows; ++r)
                    finishPanelRow(params, row + r, column, std::min(kPanelColumns, weights.n - column),
                                   sums + r * kPanelColumns);
            }
        }
    });
}

/// False when A has no digits.
bool multiplyByDigits(const CodedMatmul& params, void (*kernel)(const DigitPanelTask&)) {
    const PackedCodes& weights = *params.weights;
    DigitRows rows;
    rows.a = params.a;
    rows.aStride = params.aStride;
    rows.rows = params.m;
    rows.k = weights.k;
    rows.block = weights.block;
    rows.segment = std::min(weights.block, kMostSegment);
    rows.stride = weights.groups() * weights.codesPerWord();
    const std::int64_t perBlock = ceilDivide(rows.block, rows.segment);
    const std::int64_t segments = weights.blocks() * perBlock;
    auto* digits = threadScratch<Digits, std::int8_t>(3 * params.m * rows.stride);
    for (int d = 0; d < 3; ++d) rows.digits[d] = digits + d * params.m * rows.stride;
    rows.units = threadScratch<BlockSums, float>(2 * params.m * segments);
    rows.sums = rows.units + params.m * segments;
    if (splitIntoDigits(rows) == Split::notFinite) return false;
    forEachPanel<DigitPanelTask>(params, [&](DigitPanelTask& task, std::int64_t row) {
        for (int d = 0; d < 3; ++d) task.digits[d] = rows.digits[d] + row * rows.stride;
        task.digitStride = rows.stride;
        task.units = rows.units + row * segments;
        task.segmentSums = rows.sums + row * segments;
        task.groupsPerSegment = rows.segment / weights.codesPerWord();
        task.segmentsPerBlock = perBlock;
        task.segments = segments;
        kernel(task);
    });
    return true;
}

void multiplyFewRows(const CodedMatmul& params) {
    const PackedCodes& weights = *params.weights;
    const int index = codedKernelIndex(weights.bits);
    if (const auto digits = codedKernels().multiplyDigits[index]; digits && multiplyByDigits(params, digits))
        return;
    const FewRows rows = fewRows(params);
    const auto kernel = codedKernels().multiply[index];
    forEachPanel<CodedPanelTask>(params, [&](CodedPanelTask& task, std::int64_t row) {
        task.a = rows.a + row * rows.stride;
        task.aStride = rows.stride;
        task.blockSums = rows.blockSums + row * task.blocks;
        kernel(task);
    });
}

/// k that are decoded at a time: about kPartOfK, in whole blocks or in whole words of one long block.
std::int64_t partSizeOf(const PackedCodes& weights) {
    if (weights.block <= kPartOfK) return kPartOfK / weights.block * weights.block;
    return weights.blocks() == 1 || weights.block % kPartOfK == 0 ? kPartOfK : weights.block;
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
    const std::int64_t partSize = partSizeOf(weights);
    const std::int64_t panelSize = (partSize + weights.codesPerWord()) * kPanelColumns;
    auto* decoded = threadScratch<DecodedPart, float>(ceilDivide(columns, kPanelColumns) * panelSize);
    PanelTask task;
    task.aStride = params.aStride;
    task.cStride = params.cStride;
    task.alpha = epilogue.alpha;
    task.residualStride = epilogue.residualStride;
    for (std::int64_t begin = 0; begin < weights.k; begin += partSize) {
        task.k = std::min(partSize, weights.k - begin);
        const std::int64_t place = begin / weights.block * kPanelColumns;
        for (std::int64_t column = 0; column < columns; column += kPanelColumns) {
            const std::int64_t panel = (firstColumn + column) / kPanelColumns;
            const float* zeros = weights.panelZeros(panel);
            decode({weights.panel(panel) + begin / weights.codesPerWord() * kPanelColumns,
                    weights.panelScales(panel) + place, zeros ? zeros + place : nullptr, weights.zero,
                    ceilDivide(task.k, weights.codesPerWord()), weights.block / weights.codesPerWord(),
                    decoded + column / kPanelColumns * panelSize});
        }
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

}  // namespace

void matmulCodedNative(const CodedMatmul& params) {
    if (params.m <= kFewRows) return multiplyFewRows(params);
    const Tiles tiles = planTiles(params.m, params.weights->n, params.weights->k, kStripRows, kPanelColumns);
    parallelFor(tiles.count(), [&](std::int64_t index) { multiplyTile(params, tiles, index); });
}

}  // namespace tcompress::kernels
