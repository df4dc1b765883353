#pragma once
// The weights of a branch of the residual stream unit by unit, whatever the graph makes of them: what makes the units (up and
// gate; queries, keys and values), apart or in one matrix, and the down projection that reads them. Units are the neurons of a
// feed-forward layer, the heads of an attention layer; queries that share a key and a value are one unit with them.

#include <cstdint>
#include <string>
#include <vector>

#include "passes/support/layer_weights.h"

namespace tcompress::passes {

/// Up, gate, queries, keys, values, or several of them in one.
struct UpWeights {
    const TargetWeight* weight = nullptr;
    std::vector<std::vector<std::int64_t>> columns;  ///< outputs that are unit p's
    LinearLayer now;                                 ///< as the model has it, wherever the bias is added

    const analysis::Site& site() const { return *weight->sites.front(); }
};

struct BranchWeights {
    std::size_t layer = 0;  ///< index into TransformerView::feedForward, or attention
    std::string name;       ///< what reports call it: its down projection
    std::vector<UpWeights> ups;
    const TargetWeight* down = nullptr;
    std::vector<std::vector<std::int64_t>> rows;  ///< inputs of down that are unit p's
    LinearLayer downNow;             ///< bias as readLayer() has it
    const ir::Node* residualAdd = nullptr;
    /// Equal for layers whose weights are of one shape and mean the same.
    std::string kind;

    const analysis::Site& downSite() const { return *down->sites.front(); }
    std::int64_t units() const { return static_cast<std::int64_t>(rows.size()); }
    std::int64_t inputs() const { return downSite().inFeatures; }
    std::int64_t outputs() const { return downSite().outFeatures; }
};

/// Which branches of the model's blocks.
enum class BranchPart { feedForward, attention };

/// Layers that can be read so, with what `weights` (of all sites) knows; the others become skipped sites.
std::vector<BranchWeights> branchWeights(const analysis::TransformerView& view, BranchPart part,
                                         const std::vector<TargetWeight>& weights, const std::vector<std::size_t>& layers,
                                         pipeline::PassReport& report);

/// A unit of one of several layers.
struct UnitSource {
    std::size_t layer;
    std::int64_t unit;
};
/// For each unit of a new layer those whose mean it is.
using UnitPlan = std::vector<std::vector<UnitSource>>;

/// The up weights (number `up`) that a plan makes of those of `layers`.
LinearLayer plannedUp(const std::vector<BranchWeights>& layers, std::size_t up, const UnitPlan& plan);
/// The same of down's rows; the bias is the first layer's.
std::vector<double> plannedDown(const std::vector<BranchWeights>& layers, const UnitPlan& plan);

/// Σ over all that reads or makes a unit of the products of the weights of unit p of `a` and unit q of `b`:
/// [units, units]. Each of the layer's matrices counts alike.
std::vector<double> unitSimilarity(const BranchWeights& a, const BranchWeights& b);

/// Writes weights into the layer's own constants.
void writeUp(ir::Edit& edit, UpWeights& up, LinearLayer weights);
void writeDown(ir::Edit& edit, BranchWeights& layer, LinearLayer weights);

}  // namespace tcompress::passes
