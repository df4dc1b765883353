#pragma once
// GPTQ: codes chosen one input channel after another, each made to repay what the ones before it cost the
// layer's output.
//
// Minimised is ‖X·(W − Q)‖² = tr(EᵀHE) with H = XᵀX and E = W − Q. With the Cholesky factor H = L·Lᵀ that is
// Σₖ ‖Lₖₖ·Eₖ + Σ_{j>k} Lⱼₖ·Eⱼ‖²: going from the last row to the first, everything in the k-th term but Qₖ is
// known, and the code nearest to
//
//     Wₖ + (1 / Lₖₖ) · Σ_{j>k} Lⱼₖ·Eⱼ
//
// makes it smallest. That is the same rounding as the original's inverse-Hessian updates, without the
// inverse.
//
// Source: Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
// Transformers"; this form: Chen et al. 2025, "The Geometry of LLM Quantization: GPTQ as Babai's Nearest
// Plane Algorithm".

#include <optional>

#include "passes/quantize/group_quantizer.h"

namespace tcompress::passes {

enum class ColumnOrder {
    natural,    ///< input channels as they are stored
    activation  ///< those with the largest activations first ("act_order")
};

struct GptqOptions {
    /// Added to H's diagonal, as a multiple of its mean: makes H definite and trusts it less.
    double damp = 0.01;
    ColumnOrder order = ColumnOrder::activation;
    /// Input channels whose errors are handed on together; a matter of speed only.
    std::int64_t blockSize = 128;
};

/// `secondMoment`: XᵀX or any multiple of it, [axis, axis] row-major. Scales and zero points are those of
/// quantizeWeights (chosen beforehand, so that any order fits the stored groups); only the codes differ.
/// Nothing when a weight is NaN or infinite.
std::optional<QuantizedWeights> quantizeByGptq(std::span<const float> weights,
                                               const kernels::QuantizationLayout& layout,
                                               const QuantizationRule& rule,
                                               std::span<const double> secondMoment,
                                               const GptqOptions& options);

}  // namespace tcompress::passes
