#include "kernels/native/matmul_coded_digits.h"

#include <algorithm>

#include "kernels/aligned_buffer.h"
#include "kernels/native/coded_panels.h"
#include "kernels/native/digits.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

/// More rows than this share the decoding of a panel through the cache.
constexpr std::int64_t kFewRows = 8;
/// Panels that few rows are multiplied by in one call.
constexpr std::int64_t kPanelsAtOnce = 2;
/// Rows that go on at once in registers.
constexpr std::int64_t kStripRows = 6;
/// k that are widened at a time: 24 KiB, which stay in the first-level cache.
constexpr std::int64_t kPartOfK = 256;

struct Digits;
struct Segments;
struct Totals;
struct Codes;

/// A's digits, and where a tile's are.
struct SplitRows {
    DigitRows rows;
    std::int64_t segments = 0;

    DigitPanelTask task(std::int64_t row, std::int64_t count, std::int64_t begin) const {
        const std::int64_t perBlock = ceilDivide(rows.block, rows.segment);
        const std::int64_t segment = begin / rows.block * perBlock + begin % rows.block / rows.segment;
        DigitPanelTask task;
        task.digitStride = rows.groups * kDigitGroupBytes;
        task.digits = rows.digits + row * task.digitStride + begin / kDigitGroup * kDigitGroupBytes;
        task.units = rows.units + row * segments + segment;
        task.segmentSums = rows.sums + row * segments + segment;
        task.segments = segments;
        task.segmentsPerBlock = perBlock;
        task.rows = count;
        return task;
    }
};

SplitRows placeOfDigits(const CodedMatmul& params) {
    const PackedCodes& weights = *params.weights;
    SplitRows split;
    DigitRows& rows = split.rows;
    rows.form = params.m <= kFewRows ? DigitForm::three : DigitForm::two;
    rows.a = params.a;
    rows.aStride = params.aStride;
    rows.rows = params.m;
    rows.k = weights.k;
    rows.block = weights.block;
    rows.segment = std::min(weights.block, kMostSegment);
    rows.groups = weights.groups() * weights.codesPerWord() / kDigitGroup;
    rows.digits = threadScratch<Digits, std::int8_t>(params.m * rows.groups * kDigitGroupBytes);
    split.segments = weights.blocks() * ceilDivide(rows.block, rows.segment);
    rows.units = threadScratch<Segments, float>(2 * params.m * split.segments);
    rows.sums = rows.units + params.m * split.segments;
    return split;
}

/// Codes are decoded in registers, panel after panel.
void multiplyFewRows(const CodedMatmul& params, const SplitRows& split) {
    const PackedCodes& weights = *params.weights;
    const auto kernel = codedKernels().addThreeDigits[codedKernelIndex(weights.bits)];
    const Tiles tiles = planTiles(params.m, weights.n, weights.k, kFewRows, kPanelColumns);
    parallelFor(tiles.count(), [&](std::int64_t index) {
        const std::int64_t size = params.m * kPanelColumns;
        auto* totals = threadScratch<Totals, float>(kPanelsAtOnce * size);
        const std::int64_t end = std::min((index + 1) * tiles.columns / kPanelColumns, weights.panels());
        DigitPanelTask task = split.task(0, params.m, 0);
        task.groupsPerSegment = split.rows.segment / weights.codesPerWord();
        task.c = totals;
        for (std::int64_t panel = index * tiles.columns / kPanelColumns; panel < end; panel += task.panels) {
            task.panel = codedPanel(weights, panel);
            task.panels = std::min(kPanelsAtOnce, end - panel);
            std::fill_n(totals, task.panels * size, 0.0F);
            kernel(task);
            for (std::int64_t i = 0; i < task.panels; ++i)
                finishPanel(params, 0, params.m, (panel + i) * kPanelColumns, totals + i * size);
        }
    });
}

/// A tile of C: part after part of its columns is widened and multiplied by all its rows.
void multiplyTile(const CodedMatmul& params, const SplitRows& split, const Tiles& tiles, std::int64_t index) {
    const PackedCodes& weights = *params.weights;
    const auto [firstRow, firstColumn] = tiles.corner(index);
    const std::int64_t rows = std::min(tiles.rows, params.m - firstRow);
    const std::int64_t panels = ceilDivide(std::min(tiles.columns, weights.n - firstColumn), kPanelColumns);
    const std::int64_t firstPanel = firstColumn / kPanelColumns;
    const std::int64_t partSize = partSizeOf(weights, kPartOfK);
    auto* codes = threadScratch<Codes, std::uint32_t>((partSize + weights.codesPerWord()) / kDigitGroup *
                                                      kWidenedWords);
    auto* totals = threadScratch<Totals, float>(panels * rows * kPanelColumns);
    std::fill_n(totals, panels * rows * kPanelColumns, 0.0F);
    for (std::int64_t begin = 0; begin < weights.k; begin += partSize) {
        DigitPanelTask task = split.task(firstRow, rows, begin);
        task.groupsPerSegment = split.rows.segment / kDigitGroup;
        for (std::int64_t panel = 0; panel < panels; ++panel) {
            task.panel =
                widened(codedPanel(weights, firstPanel + panel, begin, std::min(partSize, weights.k - begin)),
                        weights.bits, codes);
            task.c = totals + panel * rows * kPanelColumns;
            codedKernels().addTwoDigits(task);
        }
    }
    for (std::int64_t panel = 0; panel < panels; ++panel)
        finishPanel(params, firstRow, rows, (firstPanel + panel) * kPanelColumns,
                    totals + panel * rows * kPanelColumns);
}

}  // namespace

bool multiplyByDigits(const CodedMatmul& params) {
    if (!codedKernels().addTwoDigits) return false;
    const SplitRows split = placeOfDigits(params);
    if (splitIntoDigits(split.rows) == Split::notFinite) return false;
    if (params.m <= kFewRows) {
        multiplyFewRows(params, split);
    } else {
        const Tiles tiles =
            planTiles(params.m, params.weights->n, params.weights->k, kStripRows, kPanelColumns);
        parallelFor(tiles.count(), [&](std::int64_t index) { multiplyTile(params, split, tiles, index); });
    }
    return true;
}

}  // namespace tcompress::kernels
