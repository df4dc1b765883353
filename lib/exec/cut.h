#pragma once
// A part of a graph as a plan of its own: the nodes between two sets of values.

#include "lib/exec/executor.h"
#include "lib/exec/plan_graph.h"

namespace tcompress::exec {

/// Applies ExecutorOptions::inputs and ::outputs. Afterwards the plan's inputs are the given ones, then the
/// graph inputs that the rest still needs, in the graph's order; nodes that neither an output nor `observer`
/// (may be null) needs are gone. What the observer wants is marked as kept.
void cutGraph(PlanGraph& graph, const ExecutorOptions& options, const Observer* observer);

}  // namespace tcompress::exec
