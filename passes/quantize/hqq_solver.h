#pragma once
// HQQ: scales and zero points that make the rounding error small in a norm that forgives outliers, found from
// the weights alone.
//
// Minimised for each group is ‖w − s·(q − z)‖ₚ, p < 1, by half-quadratic splitting: an error e that is
// allowed to be large in few places is split off, and in turns
//
//   q ← round(w / s) + z        e ← shrinkₚ(w − s·(q − z), β)        (s, z) ← least squares of w − e on q
//
// with shrinkₚ(x, β) = sign(x) · max(0, |x| − |x|ᵖ⁻¹ / β) and β growing. The grid with the smallest p-norm of
// all is kept; the first is that of quantizeWeights.
//
// Source: Badri and Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models". The original
// moves only a real zero point; stored zero points are integers here, so the scale moves too.

#include <optional>

#include "passes/quantize/group_quantizer.h"

namespace tcompress::passes {

struct HqqOptions {
    double norm = 0.7;
    std::int64_t iterations = 20;
};

/// As quantizeWeights. Nothing when a weight is NaN or infinite.
std::optional<QuantizedWeights> quantizeByHqq(std::span<const float> weights,
                                              const kernels::QuantizationLayout& layout,
                                              const QuantizationRule& rule, const HqqOptions& options);

}  // namespace tcompress::passes
