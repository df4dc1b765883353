#pragma once
// How far a layer's output is from what it should be, for any number of weights V that may replace W: with moments
// of the rows there is no need to multiply them again.
//
// Y: what the output should be, R = Y − X·W, D = V − W, b: a constant added behind the layer. About the means,
//
//   ‖X·V + b − Y‖² = tr(DᵀCD) − 2·⟨D, K⟩ + ‖R‖² + rows · Σ (b + x̄ᵀD − r̄)²,
//
// C = XᵀX and K = XᵀR about their means. D is small, so float32 is exact enough for the first term, which is all that
// costs anything.

#include <span>
#include <vector>

#include "lib/calibration/moments.h"
#include "passes/quantize/solver/output_error.h"

namespace tcompress::passes {

class LayerJudge {
  public:
    /// W [inputs, outputs], which must outlive the judge. Y is the last target of the moments, or X·W where they have none.
    LayerJudge(const calibration::Moments& moments, std::span<const float> weights, std::int64_t outputs);

    /// V [inputs, outputs]; an empty b is 0. Never negative.
    double squaredError(std::span<const float> map, std::span<const double> bias) const;
    double squaredTarget() const { return squaredTarget_; }

  private:
    std::span<const float> weights_;
    std::int64_t outputs_;
    double rows_;
    std::vector<double> mean_;          ///< x̄
    std::vector<double> residualMean_;  ///< r̄; empty: R is 0
    std::vector<double> cross_;         ///< K [inputs, outputs]; empty: R is 0
    double squaredResidual_ = 0;        ///< ‖R‖² about its mean
    double squaredTarget_ = 0;          ///< ‖Y‖²
    OutputMetric metric_;               ///< of C
};

/// The constant behind the layer for which the mean error over the rows of `moments` is 0: r̄ − x̄ᵀD. Y as above.
std::vector<double> unbiasing(const calibration::Moments& moments, std::span<const float> weights,
                              std::span<const float> map, std::int64_t outputs);

/// XᵀX about the mean.
std::vector<double> centredGram(const calibration::Moments& moments);

}  // namespace tcompress::passes
