#pragma once
// Heads inside tensors, and one call of the attention kernel, for all spellings of attention.

#include "kernels/attention.h"
#include "lib/exec/ops/support.h"

namespace tcompress::exec {

/// A [batch, head, row, size] view into a float32 tensor.
struct Heads {
    const float* data = nullptr;
    std::int64_t batch = 0, heads = 0, rows = 0, size = 0;
    kernels::HeadStrides strides;
    Tensor owner = {};  ///< of the memory, when it is nobody else's
};

/// Heads of [batch, rows, heads · size] (3-d, `heads` given) or [batch, heads, rows, size] (4-d).
Heads headsOf(const Tensor& tensor, std::int64_t heads);
/// `count` heads inside rows of `width` floats, starting at column `offset`.
Heads headsInside(const float* data, std::int64_t batch, std::int64_t rows, std::int64_t width, std::int64_t offset,
                  std::int64_t count, std::int64_t size);

/// Memory for a cache that the operator computes whether its node asks for it or not: that of the output, or a temporary
/// that `owner` keeps.
float* cacheMemory(OpContext& context, std::size_t output, Shape shape, Tensor* owner);

/// Writes the heads of past and then of `fresh` as a dense [batch, heads, past + rows, size] output.
/// past may be null. Returns the view of the joined heads.
Heads joinPast(OpContext& context, std::size_t output, const Tensor* past, const Heads& fresh);

/// An additive float mask broadcast over batch, heads and queries.
struct Mask {
    Tensor tensor;  // float32, or bool: false = not seen
    kernels::HeadStrides strides;
    std::int64_t columnStride = 1;
};
/// From a tensor that broadcasts to [batch, heads, queries, keys].
Mask maskOf(const Tensor& tensor, std::int64_t batch, std::int64_t heads, std::int64_t queries, std::int64_t keys);
/// The part of a mask that belongs to one batch element.
Mask maskOfBatchElement(const Mask& mask, std::int64_t index);

struct AttentionCall {
    Heads q, k, v;
    float* out = nullptr;
    kernels::HeadStrides outStrides;
    float scale = 0;  ///< 0: 1 / sqrt(head size)
    float softcap = 0;
    kernels::Causality causality = kernels::Causality::full;
    std::int64_t pastLength = 0;
    const Mask* mask = nullptr;
    const std::int64_t* keyLengths = nullptr;
};
/// What raw scores are multiplied by.
float scaleOf(const AttentionCall& call);
/// ModelError when batch, heads, rows or head sizes of queries, keys and values do not belong together; runAttention asks too.
void requireFit(const AttentionCall& call);
void runAttention(const AttentionCall& call);

/// Strides of a dense [batch, rows, heads · size] result.
kernels::HeadStrides rowMajorHeads(std::int64_t rows, std::int64_t heads, std::int64_t size);

/// Output i as [batch, rows, heads · size] for a 3-d input, or [batch, heads, rows, size] for a 4-d one, set in `call`.
void attentionOutput(OpContext& context, AttentionCall& call, std::int64_t inputRank);

}  // namespace tcompress::exec
