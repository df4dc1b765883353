#pragma once
// Weights changed one after another in the order of the graph, each on evidence of the model as edited so far:
// what the layers before lost is part of the problem (Frantar and Alistarh 2023, "SparseGPT"; Wang et al. 2024,
// "SVD-LLM").

#include <functional>
#include <string>
#include <vector>

#include "lib/pipeline/pass.h"
#include "passes/support/layer_weights.h"

namespace tcompress::passes {

/// The problem of one weight.
struct LayerProblem {
    const TargetWeight* weight = nullptr;
    LinearLayer start;
    BiasFit bias = BiasFit::kept;
    Evidence evidence;
};

/// The weights for which `refusal` is empty; the others become skipped sites with it as the reason.
std::vector<const TargetWeight*> withoutRefusal(const std::vector<TargetWeight>& weights,
                                                const std::function<std::string(const TargetWeight&)>& refusal,
                                                pipeline::PassReport& report);

/// Calls `fit` for each weight (float32 matrices without a refitRefusal) and writes the layer that it returns.
/// `view` is of the model and stays valid. Weights that read the same value share one run of the models.
void fitLayerwise(ir::Model& model, const ir::Model& reference, const analysis::TransformerView& view,
                  const std::vector<const TargetWeight*>& weights, const data::Split& samples, Progress& progress,
                  const std::function<LinearLayer(const LayerProblem&)>& fit);

/// A layer under a constraint (sparse, low rank), chosen like chooseRefit(): `solve` makes it from sums and a
/// choice, and the ridge is the one whose solution has the least error on held-back rows.
struct ConstrainedFit {
    RefitChoice choice;
    LinearLayer layer;  ///< fitted to all rows
};
ConstrainedFit chooseConstrained(
    const LayerProblem& problem,
    const std::function<LinearLayer(const LayerSums&, const RefitChoice&)>& solve);

/// "ridge 0.1, 60 % of the residual stream's error taken over, bias moved".
std::string describe(const RefitChoice& choice);

/// Error of a layer on the held-back rows, relative to its output there.
double heldBackError(const LayerProblem& problem, const LinearLayer& layer);

}  // namespace tcompress::passes
