#pragma once
// How far a layer's output moves when its weights are replaced: what calibrated methods minimise, and what
// tells which of two roundings to keep.

#include <span>
#include <vector>

#include "kernels/quantize.h"

namespace tcompress::passes {

/// tr(EᵀHE) for any number of E [inputs, channels] and one H = XᵀX, symmetric: half of the products are enough, and
/// H is turned into float32 once.
class OutputMetric {
  public:
    /// `secondMoment`: [inputs, inputs] row-major; any multiple of H multiplies the results.
    OutputMetric(std::span<const double> secondMoment, std::int64_t inputs);
    double energy(std::span<const float> matrix) const;

  private:
    std::int64_t inputs_;
    double unit_ = 0;       ///< the products are made in float32, which any multiple of H must fit
    std::vector<float> h_;  ///< H / unit, twice what lies before the squares on the diagonal, nothing behind them
};

/// ‖X·W‖² = tr(WᵀHW) for H = XᵀX [axis, axis] row-major (or any multiple of it, which multiplies the result).
/// W: a tensor of `layout` whose axis is the summed one.
double outputEnergy(std::span<const float> weights, const kernels::QuantizationLayout& layout,
                    std::span<const double> secondMoment);

/// ‖X·(W − V)‖ / ‖X·W‖; 0 when the output is zero.
double relativeOutputError(std::span<const float> weights, std::span<const float> replaced,
                           const kernels::QuantizationLayout& layout, std::span<const double> secondMoment);

/// The tensor as a matrix [axis, outer · inner]: a row an input channel, a column an output channel.
std::vector<float> byInputChannel(std::span<const float> values, const kernels::QuantizationLayout& layout);
/// Rows [begin, end) of it.
void copyInputChannels(std::span<const float> values, const kernels::QuantizationLayout& layout, std::int64_t begin,
                       std::int64_t end, float* target);

/// A tensor of the layout with each input channel's values times its factor; no factors: all 1.
std::vector<float> scaledByInputChannel(std::span<const float> weights,
                                        const kernels::QuantizationLayout& layout,
                                        const std::vector<float>& factors);

}  // namespace tcompress::passes
