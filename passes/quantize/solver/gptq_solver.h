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

/// Input channels whose errors are handed on together; a matter of speed only.
inline constexpr std::int64_t kGptqBlock = 128;

/// Scales and zero points are those of `grids`, which quantizeWeights has made of the weights (chosen beforehand, so
/// that any order fits the stored groups); only the codes differ.
QuantizedWeights roundByGptq(std::span<const float> weights, QuantizedWeights grids, const FeedbackFactor& factor,
                             std::int64_t blockSize = kGptqBlock);

/// The same with the grids made first. Nothing when a weight is NaN or infinite.
std::optional<QuantizedWeights> quantizeByGptq(std::span<const float> weights,
                                               const kernels::QuantizationLayout& layout,
                                               const QuantizationRule& rule, const FeedbackFactor& factor);

}  // namespace tcompress::passes
