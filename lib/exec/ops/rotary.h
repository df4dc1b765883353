#pragma once
// Rotary position embedding (Su et al., RoFormer, 2021): pairs of a head's elements are turned by an angle that grows with the
// position.

#include "lib/exec/ops/attention_support.h"

namespace tcompress::exec {

enum class RotaryLayout {
    halves,       ///< element i pairs with i + dimension / 2
    interleaved,  ///< element 2i pairs with 2i + 1
};

/// Rotated copy of the heads, [batch, rows, heads, size] in memory. cos and sin: [positions, dimension / 2], read at
/// positions[b · rows + r]. Only the first `dimension` elements of a head turn (0: all).
Heads rotateHeads(OpContext& context, const Heads& heads, const Tensor& cosines, const Tensor& sines,
                  const std::vector<std::int64_t>& positions, RotaryLayout layout, std::int64_t dimension, Tensor* owner);

Runner makeRotaryEmbedding(const NodeInfo& info);
Runner makeContribRotaryEmbedding(const NodeInfo& info);

}  // namespace tcompress::exec
