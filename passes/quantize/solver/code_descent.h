#pragma once
// Coordinate descent on what a layer's output loses: codes and scales that GPTQ has left are moved one after
// another, each to where it is best given all the others, until nothing moves.
//
// Minimised is f = tr(EᵀHE), E = W − s·q, H = XᵀX (damped). With G = H·E, moving one weight's value by δ changes f
// by H_ii·δ² − 2·δ·G_i, so that the code nearest to s·q + G_i / H_ii is the best one; the scale of a group, whose
// quotients are u, moves by uᵀG / uᵀHu. Neither ever makes f larger. GPTQ decides each code once, knowing only the
// errors before it; descent looks at all of them.
//
// Sources: Behdin et al. 2023, "QuantEase: Optimization-based Quantization for Language Models" (cyclic descent on
// the codes); Nair and Suggala 2024, "CDQuant: Greedy Coordinate Descent for Accurate LLM Quantization"; the scales
// on the way: least squares, as in Zhang et al. 2024, "COMQ: A Backpropagation-Free Algorithm for Post-Training
// Quantization".

#include <cstdint>
#include <span>

#include "passes/quantize/grid/group_quantizer.h"

namespace tcompress::passes {

struct DescentOptions {
    /// Times that all scales and codes are looked at; fewer when nothing moves any more.
    std::int64_t sweeps = 4;
    /// Added to H's diagonal, as a multiple of its mean.
    double damp = 0.01;
};

/// Moves codes and scales of `quantized`, which stands for `weights`. `secondMoment`: XᵀX or any multiple of it,
/// [axis, axis] row-major. The relative error is measured anew.
void descend(QuantizedWeights& quantized, std::span<const float> weights, std::span<const double> secondMoment,
             const DescentOptions& options);

}  // namespace tcompress::passes
