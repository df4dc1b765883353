// A task is some blocks of queries, each of one head.

#include "kernels/native/attention_native.h"

#include "kernels/aligned_buffer.h"
#include "kernels/native/attention_slice.h"
#include "kernels/native/vector_math.h"
#include "kernels/packed_weights.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kQueryBlock = 4 * kPanelColumns;
/// With fewer queries than this, a panel of them is mostly empty: dot products with the keys are cheaper.
constexpr std::int64_t kFewQueries = 4;

/// In multiply-adds: a score's way through the softmax.
constexpr double kExponentialCost = 20.0;

struct Values;

}  // namespace

PanelSequence valuePanels(const AttentionSlice& slice) {
    const std::int64_t size = slice.params.valueHeadSize;
    const std::int64_t rowStride = slice.params.vStrides.row;
    const bool wholeVectors = size % kPanelColumns == 0 || size == kLanes;
    // The rows of one head are often a large power of two apart and fall into the same few sets of the cache: read
    // there once, not once a panel of queries.
    if (wholeVectors && (rowStride == size || slice.rows <= kPanelColumns)) return {slice.v, kPanelColumns, rowStride};
    const std::int64_t panelSize = slice.keys * kPanelColumns;
    float* panels = threadScratch<Values, float>(ceilDivide(size, kPanelColumns) * panelSize);
    for (std::int64_t column = 0; column < size; column += kPanelColumns)
        packPanel(slice.v + column, slice.keys, std::min(kPanelColumns, size - column), rowStride, 1,
                  panels + column / kPanelColumns * panelSize);
    return {panels, panelSize, kPanelColumns};
}

void attentionNative(const Attention& params) {
    const std::int64_t blocks = ceilDivide(params.queryLength, kQueryBlock);
    const auto attend = params.queryLength < kFewQueries ? attendRows : attendPanels;
    const double scores = static_cast<double>(std::min(kQueryBlock, params.queryLength) * params.keyLength);
    const double work = scores * (kExponentialCost + static_cast<double>(params.headSize + params.valueHeadSize));
    const auto grain = static_cast<std::int64_t>(kMultiplyAddsWorthATask / std::max(work, 1.0)) + 1;
    parallelRanges(params.batch * params.queryHeads * blocks, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t block = begin; block < end; ++block) {
            const std::int64_t head = block / blocks;
            const std::int64_t query = block % blocks * kQueryBlock;
            attend(AttentionSlice(params, head / params.queryHeads, head % params.queryHeads, query,
                                  std::min(kQueryBlock, params.queryLength - query)));
        }
    });
}

}  // namespace tcompress::kernels
