#pragma once
// Scaled dot-product attention without the [queries, keys] matrix: keys are taken in blocks and the softmax
// is kept as a running maximum and sum (Milakov and Gimelshein, 2018; Dao et al., FlashAttention, 2022).
// Heads are reached by strides, so neither the split into heads nor its transpose has to be materialised.
// Query heads share key/value heads in equal groups (Ainslie et al., GQA, 2023). Block sizes depend on the
// shape only.

#include <cstdint>

#include <span>

#include "kernels/table.h"

namespace tcompress::kernels {

/// Strides in elements; the last dimension (head size) is contiguous.
struct HeadStrides {
    std::int64_t batch = 0, head = 0, row = 0;
};

enum class Causality {
    full,   // every query sees every key
    causal  // query i sees keys j ≤ i + pastLength
};

/// out[b, h, i, :] = Σ_j softmax_j(score(i, j)) · v[b, h', j, :],
/// score = softcap(scale · q·k) + mask, h' = h · keyValueHeads / queryHeads.
struct Attention {
    std::int64_t batch = 0, queryHeads = 0, keyValueHeads = 0;
    std::int64_t queryLength = 0, keyLength = 0, headSize = 0, valueHeadSize = 0;
    const float *q = nullptr, *k = nullptr, *v = nullptr;
    HeadStrides qStrides, kStrides, vStrides;
    float* out = nullptr;
    HeadStrides outStrides;
    float scale = 1.0F;
    float softcap = 0.0F;  // > 0: softcap · tanh(score / softcap)
    Causality causality = Causality::full;
    std::int64_t pastLength = 0;
    /// Added to the scores: mask[b · batch + h · head + i · row + j · maskColumnStride]; strides may be 0
    /// (broadcast).
    const float* mask = nullptr;
    /// false = not seen; same strides. At most one of mask and allowed is set.
    const bool* allowed = nullptr;
    HeadStrides maskStrides;
    std::int64_t maskColumnStride = 1;
    /// Number of keys that are real, per batch element; null = keyLength for all.
    const std::int64_t* keyLengths = nullptr;
};
/// A query that sees no key gives zeros.
void attention(const Attention& params);
std::span<const KernelRow<Attention>> attentionKernels();

}  // namespace tcompress::kernels
