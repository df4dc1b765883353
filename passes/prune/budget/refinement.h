#pragma once
// Dynamic programming adds up the errors of layers that were changed alone. Together they are something else: whole plans
// are put together from the database and tried out, and where one that keeps the budget is nearer to the model it is taken.

#include "passes/prune/budget/cost_model.h"
#include "passes/prune/budget/error_table.h"

namespace tcompress::passes {

/// A fixed number: what comes out does not depend on the clock.
inline constexpr int kRefinementTrials = 24;

struct Refinement {
    Assignment assignment;
    double errorBefore = 0, errorAfter = 0;  ///< of the outputs on the judges
};

/// In each trial one part takes more, and another less, as little as the budget leaves.
Refinement refine(const ir::Model& model, const Anatomy& anatomy, const ErrorTable& errors, CostModel& costs, double budget,
                  const Assignment& planned, const data::Dataset& judges, const pipeline::PassContext& context);

}  // namespace tcompress::passes
