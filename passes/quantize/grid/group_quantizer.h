#pragma once
// Round-to-nearest quantization of constant weights in groups along one axis: choose a scale (and zero point)
// for each group, round the scale to the type it is stored in, then choose the codes against the rounded
// scale.
//
//   code = clamp(roundHalfEven(w / scale) + zeroPoint),   w ≈ (code − zeroPoint) · scale
//
// so that |w − dequantized| ≤ scale / 2 for every weight inside the range (ONNX QuantizeLinear's definition).
// The range is that of the group (group_grid.h) or a cut of it (range_search.h); two levels, and three with
// RangeChoice::mse, are the best there are (few_levels.h). Each group is handled by itself in a fixed order of
// operations: the same bytes for any number of threads and any processor.

#include <optional>
#include <span>

#include "passes/quantize/grid/quantized_weights.h"

namespace tcompress::passes {

/// Nothing when a weight is NaN or infinite. `importance`, one a place of the axis, weights the squared
/// errors that the mse choice adds up; empty: all count alike. A tensor whose scales do not fit float16 well
/// (below 2⁻²⁰ or above its largest value) gets float32 scales instead: see the result's rule.
std::optional<QuantizedWeights> quantizeWeights(std::span<const float> weights,
                                                const kernels::QuantizationLayout& layout,
                                                QuantizationRule rule,
                                                std::span<const float> importance = {});

}  // namespace tcompress::passes
