#pragma once
// Gains and biases of normalizations, fitted again channel by channel: after the residual stream lost channels its means and
// variances are others, and the line z ≈ a·z' + b from what a channel is now to what it was is closed-form least squares.

#include <vector>

#include "lib/data/dataset.h"
#include "lib/ir/model.h"
#include "lib/calibration/resources.h"
#include "passes/support/residual_stream.h"

namespace tcompress::passes {

/// Fits one site to the value of the same name in `reference`, whose channel kept[c] is channel c here.
void refitAffine(ir::Model& model, const ir::Model& reference, const AffineSite& site,
                 const std::vector<std::int64_t>& kept, const data::Dataset& samples, const calibration::Environment& environment);

}  // namespace tcompress::passes
