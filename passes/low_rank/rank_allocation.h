#pragma once
// Ranks under one budget of parameters for all matrices of a model: more where what is cut off shows in the model's outputs.
//
//   minimise  Σ_w  sensitivity_w · tail_w(rank_w)     with  Σ_w  rank_w · (m_w + n_w)  within the budget
//
// tail is the sum of the squares of the whitened singular values that are left out (whitened_svd.h), sensitivity what the
// model's outputs lose for each unit of it, measured. Tails are convex, so taking the best step for its parameters, one after
// another, is optimal but for the last step.

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "lib/pipeline/pass.h"
#include "passes/support/layerwise.h"

namespace tcompress::passes {

struct RankCurve {
    std::int64_t inputs = 0, outputs = 0;
    std::vector<double> values;  ///< singular values, descending
    double sensitivity = 1;
};

/// A rank for each matrix, multiples of `multiple`; nothing for those that stay whole: their factors would be no smaller.
std::vector<std::optional<std::int64_t>> allocateRanks(const std::vector<RankCurve>& curves, double keep, std::int64_t multiple);

/// Measures the curves of weights (float32 matrices without a refitRefusal) on samples. `uniform` says at which rank the
/// sensitivity is taken: the model's outputs with this weight alone at that rank. The model is as before afterwards.
std::vector<RankCurve> measureRankCurves(ir::Model& model, const std::vector<const TargetWeight*>& weights,
                                         const std::function<std::int64_t(std::int64_t, std::int64_t)>& uniform,
                                         const data::Split& samples, const calibration::Environment& environment);

}  // namespace tcompress::passes
