#pragma once
// The weights of a linear layer as one matrix inputs × outputs and a bias, however the graph stores them, and
// back.

#include <optional>
#include <string>
#include <vector>

#include "lib/ir/edit.h"
#include "passes/support/refit.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

/// Why the weights of a layer cannot be fitted again; empty when they can. Needs a plain product with a float32
/// matrix, not an empty one, that nothing but the layer's own sites reads.
std::string refitRefusal(const TargetWeight& weight);

/// What a site computes from its input before anything that comes behind it: the bias is Gemm's own, or zero
/// where another node adds it (a change of it then goes to that node).
LinearLayer readLayer(const analysis::Site& site);
/// The bias that is added to a site's product, wherever that happens; zero where it has no constant one.
std::vector<double> wholeBias(const analysis::Site& site);
/// Whether a bias can be written: the layer has a constant one.
BiasFit biasFit(const analysis::Site& site);

/// Writes weights (and, where they differ from `before`'s, biases) to every site that shares the weight.
void writeLayer(ir::Edit& edit, const TargetWeight& weight, const LinearLayer& before,
                const LinearLayer& after);

}  // namespace tcompress::passes
