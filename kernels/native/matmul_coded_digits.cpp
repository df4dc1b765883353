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
/// k that are widened at a time: at most 24 KiB, which stay in the first-level cache.
constexpr std::int64_t kPartOfK = 256;
/// k that share a unit: the longer, the coarser it may be (native/digits.h), but the less often C is read and
/// written.
constexpr std::int64_t kStretch = 4096;
/// k of such a part.
constexpr std::int64_t kPass = 512;

struct Digits;
struct RowUnits;
struct Sums;
struct Products;
struct Totals;
struct Codes;

/// k whose digits of many rows are in memory at a time. Beside codes of 8 bits a stretch's are little; of one
/// beside narrower codes a part, whose sums wait in C, if nothing else is there and panels are whole.
std::int64_t passSize(const PackedCodes& weights) {
    const std::int64_t stretch = partSizeOf(weights, kStretch);
    const bool inC = weights.bits < 8 && stretch >= weights.k && weights.n % kPanelColumns == 0;
    return inC ? partSizeOf(weights, kPass) : stretch;
}

/// All k of A, without place for the digits.
DigitRows rowsOf(const CodedMatmul& params) {
    const PackedCodes& weights = *params.weights;
    const bool few = params.m <= kFewRows;
    DigitRows rows;
    rows.form = few ? DigitForm::three : DigitForm::two;
    rows.bits = weights.bits;
    rows.a = params.a;
    rows.aStride = params.aStride;
    rows.rows = params.m;
    rows.k = weights.k;
    rows.block = weights.block;
    rows.segment = std::min(weights.block, mostSegment(weights.bits));
    rows.stretch = partSizeOf(weights, kStretch);
    rows.part = few ? rows.stretch : partSizeOf(weights, kPartOfK);
    // Even strips: a short last one would run slowly.
    rows.stripRows = few ? 1 : ceilDivide(params.m, ceilDivide(params.m, codedKernels().stripRows));
    rows.groups = weights.groups() * weights.codesPerWord() / kDigitGroup;
    rows.unitStride = rows.stretches();
    rows.units = threadScratch<RowUnits, float>(params.m * rows.unitStride);
    return rows;
}

/// With place for them.
void makePlace(DigitRows& rows) {
    rows.digits = threadScratch<Digits, std::int8_t>(rows.sizeBytes());
    rows.sums = threadScratch<Sums, std::int32_t>(rows.rows * rows.segments());
    if (rows.form == DigitForm::two && codedKernels().pairs == CodePairs::crossed)
        rows.products =
            threadScratch<Products, std::int32_t>(rows.strips() * rows.stripRows * rows.segments());
}

/// `size` values of k from `begin` on, or what is left of their stretch.
DigitRows passOf(const DigitRows& all, std::int64_t begin, std::int64_t size) {
    DigitRows pass = all;
    const std::int64_t end = std::min(begin + size, all.stretchEnd(begin / all.stretch * all.stretch));
    pass.a += begin;
    pass.units += begin / all.stretch;
    pass.k = end - begin;
    pass.block = std::min(all.block, size);
    pass.groups = (end < all.k ? end / kDigitGroup : all.groups) - begin / kDigitGroup;
    makePlace(pass);
    return pass;
}

/// Those of some rows, the first of which begins a strip, for the part that starts at `begin`.
DigitPanelTask taskOf(const DigitRows& split, std::int64_t row, std::int64_t rows, std::int64_t begin) {
    DigitPanelTask task;
    task.stripRows = split.stripRows;
    task.stripBytes = split.partGroups(begin) * split.groupBytes();
    task.digits = split.digitsOf(begin, row / split.stripRows);
    task.segments = split.segments();
    const std::int64_t segment = split.segmentAt(begin);
    task.sums = split.sums + row * task.segments + segment;
    if (split.products) task.products = split.products + row * task.segments + segment * split.stripRows;
    task.rows = rows;
    return task;
}

/// The sums of a stretch go to C; those of the last one with all that follows.
void addStretch(const CodedMatmul& params, const DigitRows& split, std::int64_t begin, PanelSums sums) {
    sums.units = split.units + sums.firstRow * split.stretches() + begin / split.stretch;
    sums.unitStride = split.stretches();
    sums.before = begin > 0 ? PanelSums::Before::inC : PanelSums::Before::nothing;
    (split.stretchEnd(begin) < split.k ? keepSums : finishSums)(params, sums);
}

/// Codes are decoded in registers, panel after panel.
void multiplyFewRows(const CodedMatmul& params, const DigitRows& split) {
    const PackedCodes& weights = *params.weights;
    const auto kernel = codedKernels().addThreeDigits[codedKernelIndex(weights.bits)];
    const Tiles tiles = planTiles(params.m, weights.n, weights.k, kFewRows, kPanelColumns);
    parallelFor(tiles.count(), [&](std::int64_t index) {
        const std::int64_t size = params.m * kPanelColumns;
        auto* totals = threadScratch<Totals, float>(kPanelsAtOnce * size);
        const std::int64_t end = std::min((index + 1) * tiles.columns / kPanelColumns, weights.panels());
        for (std::int64_t panel = index * tiles.columns / kPanelColumns; panel < end; panel += kPanelsAtOnce)
            for (std::int64_t begin = 0; begin < weights.k; begin += split.stretch) {
                DigitPanelTask task = taskOf(split, 0, params.m, begin);
                task.groupsPerSegment = split.segment / weights.codesPerWord();
                task.panel = codedPanel(weights, panel, begin, split.stretchEnd(begin) - begin);
                task.panels = std::min(kPanelsAtOnce, end - panel);
                task.c = totals;
                std::fill_n(totals, task.panels * size, 0.0F);
                kernel(task);
                const std::int64_t column = panel * kPanelColumns;
                addStretch(params, split, begin,
                           {0, params.m, column,
                            std::min(task.panels * kPanelColumns, weights.n - column), totals});
            }
    });
}

/// What a pass adds to a tile of C: part after part of its columns is widened and multiplied by all its rows.
void multiplyTile(const CodedMatmul& params, const DigitRows& all, const DigitRows& pass, const Tiles& tiles,
                  std::int64_t index) {
    const PackedCodes& weights = *params.weights;
    const auto [firstRow, firstColumn] = tiles.corner(index);
    const std::int64_t rows = std::min(tiles.rows, params.m - firstRow);
    const std::int64_t columns = std::min(tiles.columns, weights.n - firstColumn);
    const std::int64_t panels = ceilDivide(columns, kPanelColumns);
    const std::int64_t firstPanel = firstColumn / kPanelColumns;
    const std::int64_t passBegin = pass.a - all.a;
    const std::int64_t stretch = passBegin / all.stretch * all.stretch, stretchEnd = all.stretchEnd(stretch);
    auto* codes = threadScratch<Codes, std::uint32_t>((pass.part + weights.codesPerWord()) / kDigitGroup *
                                                      kWidenedWords);
    PanelSums sums{firstRow, rows, firstColumn, columns};
    float* totals = nullptr;
    std::int64_t toNextRow = kPanelColumns, toNextPanel = rows * kPanelColumns;
    if (pass.k == stretchEnd - stretch) {
        sums.sums = totals = threadScratch<Totals, float>(panels * toNextPanel);
        std::fill_n(totals, panels * toNextPanel, 0.0F);
    } else {
        totals = params.c + firstRow * params.cStride + firstColumn;
        toNextRow = params.cStride;
        toNextPanel = kPanelColumns;
        for (std::int64_t row = 0; passBegin == stretch && row < rows; ++row)
            std::fill_n(totals + row * toNextRow, columns, 0.0F);
    }
    for (std::int64_t begin = 0; begin < pass.k; begin = pass.partEnd(begin)) {
        DigitPanelTask task = taskOf(pass, firstRow, rows, begin);
        task.groupsPerSegment = pass.segment / kDigitGroup;
        task.cStride = toNextRow;
        for (std::int64_t panel = 0; panel < panels; ++panel) {
            const CodedPanel stored = codedPanel(weights, firstPanel + panel, passBegin + begin,
                                                 pass.partEnd(begin) - begin);
            const WidenedPanel wide =
                widened(stored, weights.bits, codedKernels().pairs, task.groupsPerSegment, codes);
            task.panel = wide.panel;
            task.pairs = wide.pairs;
            task.c = totals + panel * toNextPanel;
            task.next = stored.words + stored.wordsToNext;
            task.nextWords = stored.groups * kPanelColumns;
            codedKernels().addTwoDigits(task);
        }
    }
    if (passBegin + pass.k == stretchEnd) addStretch(params, all, stretch, sums);
}

}  // namespace

std::int64_t digitsAtATime(const PackedCodes& weights) { return std::min(weights.k, passSize(weights)); }

bool multiplyByDigits(const CodedMatmul& params) {
    if (!codedKernels().addTwoDigits) return false;
    DigitRows all = rowsOf(params);
    if (findUnits(all) == Units::notFinite) return false;
    if (params.m <= kFewRows) {
        makePlace(all);
        splitIntoDigits(all);
        multiplyFewRows(params, all);
        return true;
    }
    const Tiles tiles =
        planTiles(params.m, params.weights->n, params.weights->k, all.stripRows, kPanelColumns);
    const std::int64_t size = passSize(*params.weights);
    for (std::int64_t begin = 0; begin < all.k;) {
        const DigitRows pass = passOf(all, begin, size);
        splitIntoDigits(pass);
        parallelFor(tiles.count(),
                    [&](std::int64_t index) { multiplyTile(params, all, pass, tiles, index); });
        begin += pass.k;
    }
    return true;
}

}  // namespace tcompress::kernels
