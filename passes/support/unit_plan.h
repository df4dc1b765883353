#pragma once
// How many units each layer keeps, when all layers together are to lose a share.

#include <vector>

#include "lib/data/split.h"
#include "lib/pipeline/pass.h"
#include "passes/support/unit_readers.h"

namespace tcompress::passes {

/// Tasks whose units are chosen by what their removal costs after compensation.
/// With scope global the units to keep are shared out so that errors add up to the least: how a layer's own error grows
/// comes from its order of removal, what that does to the model's outputs from trials of the layer alone (removal_paths.h).
/// With scope automatic four plans are put together from the layers' stages and tried out: the same share for each layer,
/// shared out, and shared out with no layer losing more than a quarter or a half of what the share leaves it. The one that
/// the outputs miss least is refined: units move from one layer to another where the outputs are then nearer.
std::vector<UnitTask> plannedTasks(const ir::Model& model, const analysis::TransformerView& view,
                                   const std::vector<UnitLayers>& groups, const Selection& selection,
                                   const data::Split& samples, const pipeline::PassContext& context,
                                   std::shared_ptr<const OutputCurvature> curvature = nullptr);

}  // namespace tcompress::passes
