#pragma once
// Pairs of linear layers between which positive factors of channels pass through exactly: what one puts out scaled
// by f, with the inputs of the other scaled by 1/f, changes nothing.
//
//   values → output projection     behind Softmax · V rows are weighted sums, whatever the heads' layout
//   up → down                      behind ReLU, or beside a gate that is multiplied in; GELU lets no factor through
//
// The axes say which channel is which (lib/analysis/axes.h), so fused Q, K and V and grouped queries are read like
// separate ones; the operators on the way must be ones that factors commute with. A cache or an output that shows
// the values between ends the pair.
//
// Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction".

#include <cstdint>
#include <vector>

#include "lib/analysis/transformer_view.h"

namespace tcompress::passes {

struct ScalingPath {
    const analysis::Site* producer = nullptr;
    const analysis::Site* consumer = nullptr;
    /// For each input channel of the consumer the output channel of the producer. Several share one where queries
    /// share values.
    std::vector<std::int64_t> channels;

    bool isOneToOne() const;
};

/// Both layers are plain products (MatMul, or Gemm with alpha and beta 1) with float32 matrices of their own; a bias
/// of the producer is a constant vector that nothing else reads. A site is the producer of one path and the consumer
/// of one at most.
std::vector<ScalingPath> scalingPaths(const analysis::TransformerView& view);

}  // namespace tcompress::passes
