#pragma once
// The two factors of a layer that come nearest to its output on calibration data, chosen on held-back rows: the optimum
// of the layer as it is in the edited model is decomposed in the metric of its data (whitened_svd.h), the ridge and how
// much of the residual stream's error is taken over are chosen as for refits, and the bias moves along.

#include "lib/ir/edit.h"
#include "passes/low_rank/whitened_svd.h"
#include "passes/support/layerwise.h"

namespace tcompress::passes {

struct FittedFactors {
    LowRankFactors factors;
    ConstrainedFit fit;
    double plainError = 0;  ///< relative output error on held-back rows of the plain decomposition, in which all inputs count alike
    double error = 0;       ///< of the fitted one
};
FittedFactors fitFactors(const LayerProblem& problem, std::int64_t rank);

/// "[384, 1536] to rank 152: 291840 of 589824 parameters; output error 0.412, 0.230 fitted to data (…)".
std::string describe(const FittedFactors& fitted);

/// Puts the factors in the place of the weight's matrix.
void replaceByFactors(ir::Edit& edit, const TargetWeight& weight, const LowRankFactors& factors);

}  // namespace tcompress::passes
