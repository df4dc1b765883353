#pragma once
// Every layer at every number of units, the rest of the model as it is: the database from which plans for a whole model
// are put together and tried out (Kurtic et al. 2023, "ZipLM"). One order of removal a layer gives them all, because the
// running updates of the surgeon (obs.h) leave the optimum of the inputs that stay.

#include <string>
#include <vector>

#include "lib/calibration/tensor_store.h"
#include "lib/data/split.h"
#include "lib/pipeline/pass.h"
#include "passes/support/output_judge.h"
#include "passes/support/unit_readers.h"

namespace tcompress::passes {

/// A task at one number of units that stay: which, and the weights that read them, fitted again.
struct UnitStage {
    struct Reader {
        std::string weight;                   ///< name of the constant
        std::vector<std::int64_t> inputs;     ///< those that stay
        calibration::TensorStore::Slot slot;  ///< their weights [inputs, outputs], float32
        std::vector<double> bias;
    };
    std::int64_t keep = 0;
    std::vector<Reader> readers;
};

struct RemovalPath {
    /// Squared error of the readers, relative to their outputs, without 1, 2, … units, all but one. Empty when the task
    /// cannot be compensated.
    std::vector<double> errors;
    std::vector<UnitStage> stages;  ///< descending in what they keep

    /// The stage that keeps nearest to so many of `units`; null: all.
    const UnitStage* nearest(std::int64_t keep, std::int64_t units) const;
};

/// The path of one task from its readers' evidence, with stages at the given numbers of units (descending, fewer than all).
RemovalPath removalPath(std::vector<UnitReader> readers, const std::vector<std::int64_t>& keeps,
                        calibration::TensorStore& store);

struct RemovalPaths {
    std::vector<RemovalPath> paths;  ///< one a task
    calibration::TensorStore store;
};

/// The paths of all tasks, the rest of the model as it is. One run of the model. A task that cannot be compensated has its
/// refusal set and an empty path.
RemovalPaths removalPaths(const ir::Model& model, const analysis::TransformerView& view, std::vector<UnitTask>& tasks,
                          const std::vector<std::vector<std::int64_t>>& keeps, const data::Split& samples,
                          const pipeline::PassContext& context);

/// Puts a stage into a model of the same weights.
void writeStage(ir::Edit& edit, const UnitWeights& weights, const UnitStage& stage, const calibration::TensorStore& store);
/// A copy of the model in which tasks are at these stages.
ir::Model withStages(const ir::Model& model, const calibration::TensorStore& store,
                     const std::vector<const UnitStage*>& stages);

/// What the model's outputs lose when one task alone loses 1, 2, … units: measured by the judge at some of the stages, the
/// last among them, in between the path's own errors times the ratio of the two, which is interpolated. Never less with
/// fewer units.
std::vector<double> outputErrors(const ir::Model& model, const RemovalPath& path, const calibration::TensorStore& store,
                                 std::int64_t units, const OutputJudge& judge);

}  // namespace tcompress::passes
