#pragma once
// What removing heads and removing neurons share: layers are brought together where their units are the same
// leaf, scored by their weights or on calibration data, and the choice becomes masks of leaves.

#include <functional>
#include <string>
#include <vector>

#include "lib/pipeline/pass.h"
#include "passes/support/structure.h"

namespace tcompress::passes {

enum class UnitKind { heads, neurons };

/// A layer whose units may go one by one.
struct UnitLayer {
    std::string name;  ///< what reports call it
    UnitKind kind = UnitKind::neurons;
    analysis::AtomId leaf = -1;
    std::string refusal;                 ///< why no unit of it can go; empty when some can
    std::vector<std::size_t> producers;  ///< sites that make the units (Q, K, V; up, gate)
    std::vector<std::size_t> consumers;  ///< sites that read them (O; down): what target patterns name
    ir::Node* residualAdd = nullptr;     ///< adds what the consumers make to the residual stream; may be null
};

/// One entry an attention layer, in the view's order; units are key-value heads with their queries, or queries
/// where all share one key-value head.
std::vector<UnitLayer> attentionUnits(const analysis::TransformerView& view);
/// One entry a feed-forward layer, in the view's order; units are its hidden neurons.
std::vector<UnitLayer> feedForwardUnits(const analysis::TransformerView& view);

/// Layers whose units are one leaf, because they share weights, and so go together.
struct UnitLayers {
    analysis::AtomId leaf = -1;
    std::vector<UnitLayer> layers;
};

/// The layers that targets and ignore leave and that can lose units; a layer that cannot becomes a skipped
/// site.
std::vector<UnitLayers> targetLayers(const analysis::TransformerView& view,
                                     const std::vector<UnitLayer>& layers,
                                     const std::vector<std::string>& targets,
                                     const std::vector<std::string>& ignore, pipeline::PassReport& report);

/// How units are scored on calibration data.
struct DataScore {
    calibration::MomentOrder moments = calibration::MomentOrder::first;  ///< of each consumer's input
    std::function<std::vector<double>(const analysis::TransformerView&, const analysis::Site&,
                                      analysis::AtomId, const calibration::ChannelStatistics&)>
        score;
};

/// Scores by the squared weights of producers and consumers; with `byData`, by what the consumers read on
/// `calibration`. Groups that cannot be scored become skipped sites and leave `groups`.
std::vector<UnitGroup> scoreUnits(const ir::Model& model, const analysis::TransformerView& view,
                                  std::vector<UnitLayers>& groups, const DataScore* byData,
                                  const data::Dataset* calibration, const calibration::Environment& environment,
                                  pipeline::PassReport& report);

/// Masks of the groups that lose a unit; the others become skipped sites with `idleReason`.
analysis::KeepMasks keepMasks(const std::vector<UnitLayers>& groups,
                              const std::vector<std::vector<bool>>& masks, const std::string& idleReason,
                              pipeline::PassReport& report);

}  // namespace tcompress::passes
