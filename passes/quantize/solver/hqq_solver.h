#pragma once
// HQQ: grids found by half-quadratic splitting. An error e that may be large in few places is split off the
// weights of a group, so that the grid is fitted to what is left and outliers do not pull it about:
//
//   q ← round(w / s)        e ← shrinkₚ(w − s·q, β)        (s, z) ← least squares of w − e on q
//
// with shrinkₚ(x, β) = sign(x) · max(0, |x| − |x|ᵖ⁻¹ / β), p < 1, and β growing. This goes on for as long as
// ‖w − s·q‖ₚ falls. The same turns with e = 0 (nearest codes and least squares) follow.
//
// What a layer's output loses is a squared error, however, so of all grids on the way, the one of
// quantizeWeights (with the rule's range) among them, the one with the least Σ hᵢ·(wᵢ − s·qᵢ)² is kept. hᵢ is
// the mean square of what the weight is multiplied with, where that is known, so that the result is never
// worse than rounding to nearest in that measure, group by group.
//
// Source: Badri and Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models". The original
// moves only a real zero point; stored zero points are integers here, so the scale moves too.

#include <optional>

#include "passes/quantize/grid/group_quantizer.h"

namespace tcompress::passes {

struct HqqOptions {
    double norm = 0.7;
    std::int64_t iterations = 20;
};

/// As quantizeWeights. `importance`: h, one a place of the axis; empty: all 1. Nothing when a weight is NaN or
/// infinite.
std::optional<QuantizedWeights> quantizeByHqq(std::span<const float> weights,
                                              const kernels::QuantizationLayout& layout,
                                              const QuantizationRule& rule, const HqqOptions& options,
                                              std::span<const float> importance = {});

}  // namespace tcompress::passes
