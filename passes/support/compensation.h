#pragma once
// Removal of units (heads, neurons) with compensation: layer by layer in the order of the graph, on the model as
// edited so far, units are chosen by what their removal costs once the weights that read the others adapt (obs.h),
// and those weights are fitted again to the reference (refit.h). Later layers so see, and repair, what earlier ones
// lost.

#include <optional>
#include <string>
#include <vector>

#include "lib/data/split.h"
#include "lib/pipeline/pass.h"
#include "passes/support/refit.h"
#include "passes/support/unit_removal.h"

namespace tcompress::passes {

/// Share of the samples that choices are judged on.
inline constexpr double kHeldBackShare = 0.25;

/// What one group of layers is to lose, and what came of it.
struct UnitTask {
    UnitLayers layers;
    std::int64_t keep = 0;   ///< units that stay, when they are to be chosen
    std::vector<bool> mask;  ///< which stay; empty = choose
    /// Why nothing was fitted again; empty when it was.
    std::string refusal;
    /// Error of the output projections on held-back rows, relative to their output, of the model with the units
    /// masked: as it is, and with the weights fitted again.
    double errorBefore = 0, errorAfter = 0;
};

/// Tasks whose units are chosen by what their removal costs after compensation.
/// With scope global the units to keep are shared out so that errors add up to the least: how a layer's own error
/// grows comes from its evidence, what it does to the model's outputs from one trial a layer with half of its units.
/// With scope automatic three plans are tried out: the same share for each layer, shared out, and shared out with no
/// layer losing more than half of what the share leaves it; the one goes that the outputs miss least.
std::vector<UnitTask> plannedTasks(const ir::Model& model, const analysis::TransformerView& view,
                                   const std::vector<UnitLayers>& groups, const Selection& selection,
                                   const data::Split& samples, Progress& progress);

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
void removeCompensated(ir::Model& model, const ir::Model& reference, const analysis::TransformerView& view,
                       std::vector<UnitTask>& tasks, const DataScore& fallback, const data::Split& samples,
                       Progress& progress, pipeline::PassReport& report, Refit refit = Refit::readers);

/// The model that the run started from, where the readers of all the layers' units can be fitted to it; else a copy of
/// `model` as it is.
ir::Model referenceFor(const ir::Model& model, const analysis::TransformerView& view,
                       const std::vector<UnitLayers>& groups, const data::Dataset& samples,
                       const pipeline::PassContext& context);

/// Fits the linear layers that read the residual stream behind a node again, each in its turn to what it gives in the reference, where there is the
/// same. `view` is of the model.
void refitBehind(ir::Model& model, const ir::Model& reference, const analysis::TransformerView& view,
                 std::size_t position, const data::Split& samples, Progress& progress, pipeline::PassReport& report);

/// A task at one number of units that stay: which, and the weights that read them, fitted again.
struct UnitStage {
    struct Reader {
        std::string weight;                ///< name of the constant
        std::vector<std::int64_t> inputs;  ///< those that stay
        LinearLayer layer;                 ///< on those inputs
    };
    std::int64_t keep = 0;
    std::vector<Reader> readers;
};

/// A task along one order of removal.
struct RemovalPath {
    /// Squared error of the readers, relative to their outputs, without 1, 2, … units, all but one.
    std::vector<double> errors;
    std::vector<UnitStage> stages;
};

/// The path of each task with stages at the given numbers of units, the rest of the model as it is: one run of the model
/// a task (Kurtic et al. 2023, "ZipLM": the database of layers). A task that cannot be compensated has its refusal set
/// and an empty path.
std::vector<RemovalPath> removalPaths(const ir::Model& model, const analysis::TransformerView& view,
                                      std::vector<UnitTask>& tasks, const std::vector<std::vector<std::int64_t>>& keeps,
                                      const data::Split& samples, Progress& progress);

/// Puts stages of different tasks into a model with the same weights by name; `view` is of it and stays valid.
void writeStages(ir::Model& model, const analysis::TransformerView& view, const std::vector<const UnitStage*>& stages);

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
