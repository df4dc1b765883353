#pragma once
// GPTQ: the codes of a layer chosen one input channel after another, each made to repay what the ones before
// it cost the layer's output (error_feedback.h).
//
// Source: Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
// Transformers".

#include <optional>

#include "passes/quantize/grid/group_quantizer.h"
#include "passes/quantize/solver/error_feedback.h"

namespace tcompress::passes {

struct GptqOptions {
    /// Added to H's diagonal, as a multiple of its mean: makes H definite and trusts it less.
    double damp = 0.01;
    ColumnOrder order = ColumnOrder::activation;
    /// Input channels whose errors are handed on together; a matter of speed only.
    std::int64_t blockSize = 128;
};

/// Scales and zero points are those of
/// quantizeWeights (chosen beforehand, so that any order fits the stored groups); only the codes differ.
/// `blockSize` as in GptqOptions. Nothing when a weight is NaN or infinite.
std::optional<QuantizedWeights> quantizeByGptq(std::span<const float> weights,
                                               const kernels::QuantizationLayout& layout,
                                               const QuantizationRule& rule, const FeedbackFactor& factor,
                                               std::int64_t blockSize);

/// The same with the factor of `secondMoment`, XᵀX or any multiple of it, [axis, axis] row-major.
std::optional<QuantizedWeights> quantizeByGptq(std::span<const float> weights,
                                               const kernels::QuantizationLayout& layout,
                                               const QuantizationRule& rule,
                                               std::span<const double> secondMoment,
                                               const GptqOptions& options);

}  // namespace tcompress::passes
