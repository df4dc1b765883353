#pragma once
// Weights changed one after another in the order of the graph, each on evidence of the model as edited so far:
// what the layers before lost is part of the problem (Frantar and Alistarh 2023, "SparseGPT"; Wang et al. 2024,
// "SVD-LLM").

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lib/pipeline/pass.h"
#include "passes/support/evidence.h"
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

/// Edits that are made one after another, each on evidence of the model as edited so far.
struct WalkStep {
    std::vector<const analysis::Site*> sites;  ///< whose weights it changes
    std::size_t position = 0;                  ///< node in the graph that decides its turn
    std::function<void(EvidenceWalk&)> run;
};
/// Runs the steps in their order; the walk advances as far as no later step changes what lies behind it.
void walkInOrder(EvidenceWalk& walk, std::vector<WalkStep> steps);

/// One step for all the weights that read the same value: `fit` makes each weight's layer, which is written to the
/// model, and may use the problem up. Weights are float32 matrices without a refitRefusal; a weight's turn is that of its last reader.
std::vector<WalkStep> layerSteps(ir::Model& model, const analysis::TransformerView& view,
                                 const std::vector<const TargetWeight*>& weights,
                                 const std::function<LinearLayer(LayerProblem&)>& fit);

/// The node that adds a site's output to the residual stream; null when the site is not the last of its branch.
const ir::Node* residualAddOf(const analysis::TransformerView& view, const analysis::Site& site);

/// What a weight's sites ask the evidence for.
std::vector<EvidenceQuery> queriesOf(const TargetWeight& weight, const analysis::TransformerView& view);

/// Calls `fit` for each weight (float32 matrices without a refitRefusal) and writes the layer that it returns.
/// `view` is of the model and stays valid.
void fitLayerwise(ir::Model& model, const ir::Model& reference, const analysis::TransformerView& view,
                  const std::vector<const TargetWeight*>& weights, const data::Split& samples, const calibration::Environment& environment,
                  const std::function<LinearLayer(LayerProblem&)>& fit);

/// As referenceFor() of what these weights ask for.
ir::Model referenceFor(const ir::Model& model, const std::vector<const TargetWeight*>& weights,
                       const analysis::TransformerView& view, const data::Dataset& samples,
                       const pipeline::PassContext& context);

/// A layer under a constraint (sparse, low rank), chosen like chooseRefit(): `solve` makes it from sums and a
/// choice, and the ridge is the one whose solution has the least error on held-back rows.
struct ConstrainedFit {
    RefitChoice choice;
    LinearLayer layer;  ///< fitted to all rows
};
ConstrainedFit chooseConstrained(
    const LayerProblem& problem,
    const std::function<LinearLayer(const LayerSums&, const RefitChoice&)>& solve);
/// The choice alone, for those who make the layer themselves.
RefitChoice chooseUnderConstraint(const LayerProblem& problem,
                                  const std::function<LinearLayer(const LayerSums&, const RefitChoice&)>& solve);
/// The same as the first with another way to solve while ridges are tried, which several threads call at once: from sums, the
/// weights that the layer has, and what is best without the constraint. Outputs have their rows in common, so about a hundred
/// of them know which ridge is best; runs of `together` outputs stay together. Sums are large, so the problem is used up: its
/// rows to fit on are all rows afterwards.
using RidgeTrial = std::function<LinearLayer(const LayerSums&, const LinearLayer& start, const RidgeFit&)>;
ConstrainedFit chooseConstrained(LayerProblem& problem, const RidgeTrial& trial,
                                 const std::function<LinearLayer(const LayerSums&, const RefitChoice&)>& solve,
                                 std::int64_t together);

/// A layer fitted again where that is better on held-back rows by more than rounding.
struct Refitted {
    LinearLayer layer;
    std::optional<RefitChoice> choice;  ///< nothing: it stays as it was
    /// Squared errors on held-back rows, and of outputs that are all zero.
    double before = 0, after = 0, whole = 0;
    double errorBefore() const { return relative(before); }
    double errorAfter() const { return relative(after); }

  private:
    double relative(double error) const;
};
Refitted refitWhereBetter(const Evidence& evidence, const LinearLayer& start, BiasFit bias);

/// "ridge 0.1, 60 % of the residual stream's error taken over, bias moved".
std::string describe(const RefitChoice& choice);

/// Error of a layer on the held-back rows, relative to its output there.
double heldBackError(const LayerProblem& problem, const LinearLayer& layer);

}  // namespace tcompress::passes
