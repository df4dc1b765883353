#pragma once
// What every choice costs the model's outputs. One order of removal a part gives the error of its own output at every
// number of units (OBS: support/obs.h); at a few numbers the model runs with them, and what its outputs then miss says
// how much the local errors between them mean.

#include <string>
#include <vector>

#include "lib/data/split.h"
#include "lib/pipeline/pass.h"
#include "passes/prune/budget/anatomy.h"

namespace tcompress::passes {

struct ErrorTable {
    /// ‖y − ŷ‖² / ‖y‖² of the model's outputs by part and index into its keeps; never less with fewer units.
    std::vector<std::vector<double>> parts;
    /// The same by block with all its parts dropped; infinite where that cannot be.
    std::vector<double> blocks;
};

/// `model` is the original, `view` of it. Parts that cannot be compensated are taken as they are, with the reason in
/// `refusals` (empty: none), and have infinite errors.
ErrorTable measureErrors(const ir::Model& model, const analysis::TransformerView& view, const Anatomy& anatomy,
                         const data::Split& samples, std::vector<std::string>& refusals, const pipeline::PassContext& context);

/// The sum of the parts.
double predictedError(const ErrorTable& table, const Anatomy& anatomy, const Assignment& assignment);

}  // namespace tcompress::passes
