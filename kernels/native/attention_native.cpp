// A task is one block of queries of one head.

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
    parallelFor(params.batch * params.queryHeads * blocks, [&](std::int64_t task) {
        const std::int64_t head = task / blocks;
        const std::int64_t query = task % blocks * kQueryBlock;
        attend(AttentionSlice(params, head / params.queryHeads, head % params.queryHeads, query,
                              std::min(kQueryBlock, params.queryLength - query)));
    });
}

}  // namespace tcompress::kernels
