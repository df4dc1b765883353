#pragma once
// Which layers a model can do without, by what its outputs make of it, and the linear maps that stand in for them.

#include <set>
#include <vector>

#include "lib/data/split.h"
#include "passes/support/evidence.h"
#include "passes/support/layer_runs.h"

namespace tcompress::passes {

/// bias: the mean of what the run adds to its input; linear: a map of the input.
enum class Patch { none, bias, linear };

/// Fits the map of a run by least squares: from what `edited` has at the run's input to what `original` has at its
/// output, so that it also makes up for what runs before it lost. The ridge draws towards the identity, the plain
/// drop, and is chosen on held-back samples. With Patch::bias there is only the constant; the weight stays empty.
struct RunFit {
    LinearLayer map;
    std::string choice;  ///< what it was fitted with, in words
    /// Relative errors of the run's output on held-back samples: its input as it is, and mapped.
    double errorPlain = 0, errorPatched = 0;
};
/// What a run asks the evidence for; nothing when its input is no computed float32 value.
std::optional<EvidenceQuery> runQuery(const ir::Model& original, const ir::Model& edited, const LayerRun& run);
std::optional<RunFit> fitRun(const Evidence& evidence, Patch patch = Patch::linear);
/// The fits of several runs, nothing for those without a query. One pass over the samples for all runs.
std::vector<std::optional<RunFit>> fitRuns(const ir::Model& original, const ir::Model& edited,
                                           const std::vector<LayerRun>& runs, const data::Split& samples,
                                           const calibration::Environment& environment, Patch patch = Patch::linear);

/// Relative squared difference of the outputs, the mean over outputs.
double outputError(const ir::Model& original, const ir::Model& edited, const std::vector<std::string>& outputs,
                   const data::Dataset& samples, const calibration::Environment& environment);

/// The droppable span whose removal, next to those in `dropped`, changes the outputs least; there is one. `errors` gets
/// each candidate's error, infinite for those that are none. Throws PassError where outputs overflow.
std::size_t leastMissed(const ir::Model& original, const std::vector<LayerSpan>& spans,
                        const std::set<std::size_t>& dropped, Patch patch, const data::Split& samples,
                        const calibration::Environment& environment, std::vector<double>& errors);

/// Cuts the runs out in order, each with its map where `patch` says so, and reports what it was worth.
void cutOutRuns(ir::Model& model, std::vector<LayerRun> runs, Patch patch, const data::Split& samples,
                const std::string& pass, const calibration::Environment& environment, pipeline::PassReport& report);

}  // namespace tcompress::passes
