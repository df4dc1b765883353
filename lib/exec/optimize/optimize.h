#pragma once
// From the model's graph to the graph that a Program runs: constants folded, patterns fused. What the observer wants
// and the graph's outputs stay values of the plan.

#include "lib/exec/executor.h"
#include "lib/exec/plan_graph.h"

namespace tcompress::exec {

PlanGraph preparedGraph(const ir::Model& model, const ExecutorOptions& options, const Observer* observer);

}  // namespace tcompress::exec
