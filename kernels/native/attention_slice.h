#pragma once
// What the attention kernels share: where one head of one batch element lies.

#include <algorithm>
#include <cstdint>

#include "kernels/attention.h"
#include "kernels/native/panel_product.h"

namespace tcompress::kernels {

/// `rows` queries from `query` on, of one head of one batch element.
struct AttentionSlice {
    AttentionSlice(const Attention& params, std::int64_t batch, std::int64_t head, std::int64_t query,
                   std::int64_t rows)
        : params(params), batch(batch), head(head), query(query), rows(rows) {
        const std::int64_t keyHead = head * params.keyValueHeads / params.queryHeads;
        q = params.q + batch * params.qStrides.batch + head * params.qStrides.head + query * params.qStrides.row;
        k = params.k + batch * params.kStrides.batch + keyHead * params.kStrides.head;
        v = params.v + batch * params.vStrides.batch + keyHead * params.vStrides.head;
        out = params.out + batch * params.outStrides.batch + head * params.outStrides.head +
              query * params.outStrides.row;
        keys = params.keyLength;
        if (params.keyLengths) keys = std::min(keys, params.keyLengths[batch]);
        if (params.causality == Causality::causal) keys = std::min(keys, query + rows + params.pastLength);
        keys = std::max<std::int64_t>(keys, 0);
        maskOffset = batch * params.maskStrides.batch + head * params.maskStrides.head +
                     query * params.maskStrides.row;
    }

    const Attention& params;
    std::int64_t batch, head, query, rows;
    std::int64_t keys = 0;  // that the last of the queries may see
    const float *q = nullptr, *k = nullptr, *v = nullptr;
    float* out = nullptr;
    std::int64_t maskOffset = 0;
};

/// The values in panels: where they lie, or packed into this thread's scratch.
PanelSequence valuePanels(const AttentionSlice& slice);

/// One query after the other: for so few that panels of queries would be mostly empty.
void attendRows(const AttentionSlice& slice);
/// Panels of queries.
void attendPanels(const AttentionSlice& slice);

}  // namespace tcompress::kernels
