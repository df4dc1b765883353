#pragma once
// AWQ: weights that meet large activations are made large before rounding, and what they are multiplied by is
// taken out of the activations, so that rounding costs the output less.
//
//   x · W  =  (x / s) · (s · W)  ≈  (x / s) · round(s · W),      sⱼ = (mean|xⱼ|)^α / √(max · min)
//
// α is searched on a grid from 0 (no scaling: plain rounding, so the result is never worse than that) to 1 by
// the error of the outputs, which is exact: tr(EᵀHE) with E = W − round(s·W)/s and H = XᵀX. All layers that
// read one input share s.
//
// Source: Lin et al. 2023, "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration".
// The paper's search for clipped ranges weighs errors by the activations' energy: here the mse choice of the
// rule does, with the diagonal of H.

#include <optional>
#include <span>
#include <vector>

#include "passes/quantize/grid/group_quantizer.h"

namespace tcompress::passes {

struct AwqLayer {
    std::span<const float> weights;
    kernels::QuantizationLayout layout;
};

struct AwqSolution {
    double exponent = 0;
    /// One an input channel: what its weights were multiplied by. All 1 when the exponent is 0.
    std::vector<float> scales;
    /// Of the scaled weights, one a layer.
    std::vector<QuantizedWeights> weights;
    /// Energy of the output error of all layers, in the units of the second moment.
    double error = 0;
};

/// Layers of the same summed axis. `secondMoment`: XᵀX or a multiple, [axis, axis]; `meanAbsolute`: [axis].
/// `steps`: exponents tried besides 0. Nothing when a weight is NaN or infinite.
std::optional<AwqSolution> quantizeByAwq(std::span<const AwqLayer> layers, const QuantizationRule& rule,
                                         std::span<const double> secondMoment,
                                         std::span<const double> meanAbsolute, std::int64_t steps);

}  // namespace tcompress::passes
