#pragma once
// How far a layer's output moves when its weights are replaced: what calibrated methods minimise, and what
// tells which of two roundings to keep.

#include <span>
#include <vector>

#include "kernels/quantize.h"

namespace tcompress::passes {

/// ‖X·W‖² = tr(WᵀHW) for H = XᵀX [axis, axis] row-major (or any multiple of it, which multiplies the result).
/// W: a tensor of `layout` whose axis is the summed one.
double outputEnergy(std::span<const float> weights, const kernels::QuantizationLayout& layout,
                    std::span<const double> secondMoment);

/// ‖X·(W − V)‖ / ‖X·W‖; 0 when the output is zero.
double relativeOutputError(std::span<const float> weights, std::span<const float> replaced,
                           const kernels::QuantizationLayout& layout, std::span<const double> secondMoment);

/// The tensor as a matrix [axis, outer · inner]: a row an input channel, a column an output channel.
std::vector<float> byInputChannel(std::span<const float> values, const kernels::QuantizationLayout& layout);

/// A tensor of the layout with each input channel's values times its factor; no factors: all 1.
std::vector<float> scaledByInputChannel(std::span<const float> weights,
                                        const kernels::QuantizationLayout& layout,
                                        const std::vector<float>& factors);

}  // namespace tcompress::passes
