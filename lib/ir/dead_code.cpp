#include <algorithm>
#include <unordered_set>

#include "lib/ir/edit.h"
#include "lib/ir/internals.h"
#include "lib/ir/topology.h"

namespace tcompress::ir {
namespace {

/// Nodes that some graph output needs, walking backwards.
std::unordered_set<const Node*> neededNodes(const Graph& graph) {
    std::unordered_set<const Node*> needed;
    std::vector<const Node*> waiting;
    auto need = [&](const Node* node) {
        if (node != nullptr && needed.insert(node).second) waiting.push_back(node);
    };
    for (const Value* output : graph.outputs()) need(output->producer());
    while (!waiting.empty()) {
        const Node* node = waiting.back();
        waiting.pop_back();
        forEachDependency(*node, need);
    }
    return needed;
}

}  // namespace

DeadCode removeDeadCode(Model& model) {
    Graph& graph = model.graph();
    std::unordered_set<const Node*> needed = neededNodes(graph);
    std::unordered_set<const Value*> used(graph.outputs().begin(), graph.outputs().end());
    for (const Node* node : needed) {
        used.insert(node->inputs().begin(), node->inputs().end());
        used.insert(node->captured().begin(), node->captured().end());
    }

    DeadCode removed;
    auto& values = Internals::values(graph);
    removed.nodes = std::erase_if(Internals::nodes(graph), [&](const std::unique_ptr<Node>& node) {
        if (needed.contains(node.get())) return false;
        for (const Value* output : node->outputs()) {
            if (output != nullptr) values.erase(values.find(output->name()));
        }
        return true;
    });
    removed.initializers = std::erase_if(Internals::initializers(graph), [&](const Value* value) {
        // A default of a graph input belongs to the input.
        bool isDefault = value->isGraphInput() && value->constantKind() == ConstantKind::none;
        if (used.contains(value) || isDefault) return false;
        values.erase(values.find(value->name()));
        return true;
    });
    std::erase_if(Internals::inputInfo(graph),
                  [&](const onnx::ValueInfoProto& info) { return !values.contains(info.name()); });
    if (removed.nodes + removed.initializers == 0) return removed;
    indexGraph(graph);
    Internals::revision(model) = Internals::nextRevision();
    return removed;
}

}  // namespace tcompress::ir
