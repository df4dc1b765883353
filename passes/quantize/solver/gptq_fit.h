#pragma once
// One layer's GPTQ with everything that has to be chosen chosen on rows that were not fitted to.
//
// A layer sees X̂, the input it gets behind layers that are quantized already. What its weights should
// reproduce there is a choice:
//   own       X̂·W: what the layer itself would have made of it;
//   target    Y, an output of the original model (of the layer, or of the residual stream behind it), by
//   ridge
//             regression towards W: V = (Ĝ + λI)⁻¹·(X̂ᵀY + λW), then GPTQ of V.
// The second repairs what earlier layers lost, and over-fits when rows are few. So are the damping of GPTQ
// and the ridge. Each combination is solved on the rows to fit to and judged on held-back rows by its
// distance from Y; rounding to nearest is judged too and kept where it is best (too few rows for a Hessian).
// The winner is solved again on all rows. Last of all it is tried what coordinate descent from there on
// (code_descent.h) does to held-back rows.
//
// A constant added behind the layer takes up the mean of the error, so with one the moments are taken about
// the mean.
//
// Source: Frantar et al. 2022 (GPTQ); Li et al. 2025, "GPTAQ: Efficient Finetuning-Free Quantization for
// Asymmetric Calibration" (targets from the original model); bias correction: Nagel et al. 2019, "Data-Free
// Quantization Through Weight Equalization and Bias Correction".

#include <optional>
#include <vector>

#include "lib/calibration/moments.h"
#include "passes/quantize/solver/gptq_solver.h"

namespace tcompress::passes {

inline constexpr std::int64_t kDescentSweeps = 4;

enum class GptqTarget { automatic, own, original };

struct GptqFit {
    std::span<const float> weights;
    kernels::QuantizationLayout layout;  ///< axis: the summed one
    QuantizationRule rule;
    /// X and the targets that may be fitted to, without the layer's constant; the last target is what all are
    /// judged by. Without targets own output is fitted to and judged.
    calibration::SplitMoments moments;
    bool hasBias = false;
    GptqTarget target = GptqTarget::automatic;
    /// Dampings to choose from; at least one.
    std::vector<double> damps;
    ColumnOrder order = ColumnOrder::activation;
    std::int64_t blockSize = kGptqBlock;
    /// Of the descent; 0: none.
    std::int64_t sweeps = kDescentSweeps;
};

struct GptqResult {
    QuantizedWeights weights;
    /// What to add to the constant behind the layer; empty without one.
    std::vector<float> biasChange;
    /// ‖judged output error‖ / ‖Y‖ on held-back rows, of the result and of rounding to nearest.
    double error = 0;
    double nearestError = 0;
    double damp = 0;
    bool fromOriginal = false;  ///< fitted to an output of the original model
    bool nearest = false;       ///< rounding to nearest was best
    bool descended = false;     ///< descent was worth it
};

/// Nothing when a weight is NaN or infinite.
std::optional<GptqResult> fitGptq(const GptqFit& fit);

}  // namespace tcompress::passes
