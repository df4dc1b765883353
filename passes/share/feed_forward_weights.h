#pragma once
// The weights of a feed-forward layer neuron by neuron, whatever the graph makes of them: up (and gate), apart or in one
// matrix, and down.

#include <cstdint>
#include <string>
#include <vector>

#include "passes/support/layer_weights.h"

namespace tcompress::passes {

/// Up, gate, or both in one.
struct UpWeights {
    const TargetWeight* weight = nullptr;
    std::vector<std::vector<std::int64_t>> columns;  ///< outputs that are neuron p's: one, two when fused
    LinearLayer now;                                 ///< as the model has it, wherever the bias is added

    const analysis::Site& site() const { return *weight->sites.front(); }
};

struct FeedForwardWeights {
    std::size_t layer = 0;  ///< index into TransformerView::feedForward
    std::string name;       ///< what reports call it: its down projection
    std::vector<UpWeights> ups;
    const TargetWeight* down = nullptr;
    std::vector<std::int64_t> rows;  ///< input of down that is neuron p's
    LinearLayer downNow;             ///< bias as readLayer() has it
    const ir::Node* residualAdd = nullptr;
    /// Equal for layers whose weights are of one shape and mean the same.
    std::string kind;

    const analysis::Site& downSite() const { return *down->sites.front(); }
    std::int64_t width() const { return static_cast<std::int64_t>(rows.size()); }
    std::int64_t outputs() const { return downSite().outFeatures; }
};

/// Layers that can be read so, with what `weights` (of all sites) knows; the others become skipped sites.
std::vector<FeedForwardWeights> feedForwardWeights(const analysis::TransformerView& view,
                                                   const std::vector<TargetWeight>& weights,
                                                   const std::vector<std::size_t>& layers,
                                                   pipeline::PassReport& report);

/// A neuron of one of several layers.
struct NeuronSource {
    std::size_t layer;
    std::int64_t neuron;
};
/// For each neuron of a new layer those whose mean it is.
using NeuronPlan = std::vector<std::vector<NeuronSource>>;

/// The up weights (number `up`) that a plan makes of those of `layers`.
LinearLayer plannedUp(const std::vector<FeedForwardWeights>& layers, std::size_t up, const NeuronPlan& plan);
/// The same of down's rows; the bias is the first layer's.
std::vector<double> plannedDown(const std::vector<FeedForwardWeights>& layers, const NeuronPlan& plan);

/// Σ over all that reads or makes a neuron of the products of the weights of neuron p of `a` and neuron q of `b`:
/// [width, width]. Each of the layer's matrices counts alike.
std::vector<double> neuronSimilarity(const FeedForwardWeights& a, const FeedForwardWeights& b);

/// Writes weights into the layer's own constants.
void writeUp(ir::Edit& edit, UpWeights& up, LinearLayer weights);
void writeDown(ir::Edit& edit, FeedForwardWeights& layer, LinearLayer weights);

}  // namespace tcompress::passes
