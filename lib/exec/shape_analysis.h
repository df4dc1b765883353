#pragma once
// Which values of a plan depend on the shapes of its inputs alone: the operands of Reshape and Expand, position ids,
// causal masks. For inputs of a shape seen before they need not be computed again.

#include <cstdint>
#include <vector>

#include "lib/exec/plan_graph.h"

namespace tcompress::exec {

/// By value: 1 when its elements are the same for all inputs of the same shapes. Constants count as well.
std::vector<std::uint8_t> shapeOnlyValues(const PlanGraph& graph);

}  // namespace tcompress::exec
