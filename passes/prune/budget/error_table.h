#pragma once
// What every choice costs the model's outputs, and the layers in all of them. One order of removal a part gives the error
// of its own output at every number of units (OBS: support/obs.h), one decomposition a matrix the nearest product of every
// rank; at a few of them the model runs with that part alone changed, and what its outputs then miss says how much the
// local errors between them mean. Whole plans are put together from the same layers.

#include <optional>
#include <string>
#include <vector>

#include "lib/calibration/tensor_store.h"
#include "lib/data/split.h"
#include "lib/pipeline/pass.h"
#include "passes/prune/budget/anatomy.h"
#include "passes/prune/budget/rank_stages.h"
#include "passes/support/output_judge.h"
#include "passes/support/removal_paths.h"

namespace tcompress::passes {

/// A stretch cut out with the map that stands in for it; no map where the input itself is better.
struct DroppedStage {
    LayerRun run;
    std::optional<calibration::TensorStore::Slot> map;
    std::vector<double> bias;
};

/// The layers in all that they may become.
struct LayerDatabase {
    struct PartStages {
        RemovalPath path;
        RankStages ranks;
        std::optional<DroppedStage> dropped;
    };
    std::vector<PartStages> parts;
    std::vector<std::optional<DroppedStage>> blocks;  ///< as wholes
    calibration::TensorStore store;
};

struct ErrorTable {
    /// ‖y − ŷ‖² / ‖y‖² of the model's outputs by part and index into its choices; infinite where that cannot be. Never less
    /// with fewer units.
    std::vector<std::vector<double>> parts;
    /// The same by block with all its parts dropped.
    std::vector<double> blocks;
    LayerDatabase layers;
};

/// `model` is the original, `view` of it. Parts that cannot be compensated are taken as they are, with the reason in
/// `refusals` (empty: none). Units go by `curvature` (may be null).
ErrorTable measureErrors(const ir::Model& model, const analysis::TransformerView& view, const Anatomy& anatomy,
                         const data::Split& samples, std::vector<std::string>& refusals, const pipeline::PassContext& context,
                         std::shared_ptr<const OutputCurvature> curvature = nullptr);

/// The sum of the parts.
double predictedError(const ErrorTable& table, const Anatomy& anatomy, const Assignment& assignment);

/// The model with all parts as the assignment says, each as the database has it, in the original's shapes.
ir::Model assembled(const ir::Model& model, const Anatomy& anatomy, const LayerDatabase& layers, const Assignment& assignment);

}  // namespace tcompress::passes
