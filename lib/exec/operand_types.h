#pragma once
// Whether a node's operands have types that its operator takes. Asked only once a node has failed: types that are
// computed are not known before, and whoever runs a sound model should not pay for the others.

#include <span>
#include <string>

#include "lib/exec/datum.h"
#include "lib/exec/plan_graph.h"

namespace tcompress::exec {

/// What ONNX's definition of the operator says against the operands (null: left out), such as "input 'condition' is
/// float32, and the operator takes none"; empty when it says nothing.
std::string typeMisfit(const PlanNode& node, std::span<const Datum* const> inputs);

}  // namespace tcompress::exec
