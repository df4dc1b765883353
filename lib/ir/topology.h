#pragma once
// Orders and indexes the nodes of a graph.

#include <functional>
#include <memory>
#include <vector>

#include "lib/ir/graph.h"

namespace tcompress::ir {

/// What a node needs before it can run, as producer nodes (null entries are skipped).
using Dependencies = std::function<void(const Node&, const std::function<void(const Node*)>&)>;

/// Inputs and captured values.
void forEachDependency(const Node& node, const std::function<void(const Node*)>& visit);

struct Ordering {
    std::vector<Node*> nodes;  ///< every node after those it needs; complete unless there is a cycle
    const Node* onCycle = nullptr;
};

/// Keeps the order of `base` where the dependencies allow it; a node that must move, and one that stands in
/// no place yet (reached only as a dependency), comes directly before the first node that needs it.
Ordering stableTopologicalOrder(const std::vector<Node*>& base, const Dependencies& dependencies);

/// Makes positions and use lists true after nodes, inputs, outputs or captured values changed.
void indexGraph(Graph& graph);

}  // namespace tcompress::ir
