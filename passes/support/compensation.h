#pragma once
// Removal of units (heads, neurons) with compensation: layer by layer in the order of the graph, on the model as
// edited so far, units are chosen by what their removal costs once the weights that read the others adapt (obs.h),
// and those weights are fitted again to the reference (refit.h). Later layers so see, and repair, what earlier ones
// lost.

#include <string>
#include <vector>

#include "lib/data/split.h"
#include "lib/pipeline/pass.h"
#include "passes/support/unit_readers.h"

namespace tcompress::passes {

/// Share of the samples that choices are judged on.
inline constexpr double kHeldBackShare = 0.25;

/// Tasks for units that are chosen already: the groups that `masks` names.
std::vector<UnitTask> tasksOf(const std::vector<UnitLayers>& groups, const analysis::KeepMasks& masks);

/// Which weights adapt to what is removed.
enum class Refit {
    readers,  ///< those that read the units
    /// from the first removal on also every linear layer that reads the residual stream, each in its turn; other
    /// layers that write to it stay: they would be fitted to errors that are not theirs
    all
};

/// Does the tasks. The model keeps its shapes: weights that read removed units become zero, so that cutting them
/// afterwards changes nothing. `view` is of the model and stays valid (only constants change). A task that cannot be
/// compensated gets a mask by `fallback` instead, and a note; one that cannot be scored either goes, and is a skipped
/// site.
/// `more` are steps of other kinds that take their turn in the same walk.
void removeCompensated(ir::Model& model, const ir::Model& reference, const analysis::TransformerView& view,
                       std::vector<UnitTask>& tasks, const DataScore& fallback, const data::Split& samples,
                       const calibration::Environment& environment, pipeline::PassReport& report, Refit refit = Refit::readers,
                       std::vector<WalkStep> more = {});

/// The model that the run started from, where the readers of all the layers' units can be fitted to it; else a copy of
/// `model` as it is.
ir::Model referenceFor(const ir::Model& model, const analysis::TransformerView& view,
                       const std::vector<UnitLayers>& groups, const data::Dataset& samples,
                       const pipeline::PassContext& context);

/// Fits the linear layers that read the residual stream behind a node again, each in its turn to what it gives in the reference, where there is the
/// same. `view` is of the model.
void refitBehind(ir::Model& model, const ir::Model& reference, const analysis::TransformerView& view,
                 std::size_t position, const data::Split& samples, const calibration::Environment& environment, pipeline::PassReport& report);

/// The masks of tasks that lose a unit; the others become skipped sites with `idleReason`.
analysis::KeepMasks keepMasks(const std::vector<UnitTask>& tasks, const std::string& idleReason,
                              pipeline::PassReport& report);

/// "; output error 0.412, 0.230 with the weights fitted again", and the error itself, for the report's row of a
/// layer with this leaf. Empty and negative when no task compensated it.
struct CompensationText {
    std::string text;
    double error = -1;
};
CompensationText compensationText(const std::vector<UnitTask>& tasks, analysis::AtomId leaf);

}  // namespace tcompress::passes
