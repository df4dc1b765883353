#include "lib/ir/topology.h"

#include <unordered_map>

#include "lib/ir/internals.h"

namespace tcompress::ir {

void forEachDependency(const Node& node, const std::function<void(const Node*)>& visit) {
    for (const Value* input : node.inputs()) {
        if (input != nullptr) visit(input->producer());
    }
    for (const Value* value : node.captured()) visit(value->producer());
}

Ordering stableTopologicalOrder(const std::vector<Node*>& base, const Dependencies& dependencies) {
    enum class State { waiting, open, placed };
    std::unordered_map<const Node*, State> states;
    states.reserve(base.size());
    Ordering ordering;
    ordering.nodes.reserve(base.size());

    // Depth first with an explicit stack: a hostile file can hold a chain of a million nodes in reverse
    // order.
    struct Frame {
        Node* node;
        std::vector<const Node*> needs;
        std::size_t next = 0;
    };
    std::vector<Frame> stack;
    auto open = [&](Node* node) {
        states[node] = State::open;
        Frame& frame = stack.emplace_back(Frame{node, {}, 0});
        dependencies(*node, [&frame](const Node* producer) {
            if (producer != nullptr) frame.needs.push_back(producer);
        });
    };
    for (Node* root : base) {
        if (states[root] != State::waiting) continue;
        open(root);
        while (!stack.empty()) {
            Frame& top = stack.back();
            if (top.next == top.needs.size()) {
                states[top.node] = State::placed;
                ordering.nodes.push_back(top.node);
                stack.pop_back();
                continue;
            }
            Node* needed = const_cast<Node*>(top.needs[top.next++]);
            State state = states[needed];
            if (state == State::open) {
                ordering.onCycle = needed;
                return ordering;
            }
            if (state == State::waiting) open(needed);
        }
    }
    return ordering;
}

void indexGraph(Graph& graph) {
    for (auto& [name, value] : Internals::values(graph)) Internals::uses(*value).clear();
    std::size_t position = 0;
    for (const std::unique_ptr<Node>& node : graph.nodes()) {
        Internals::position(*node) = position++;
        for (std::size_t i = 0; i < node->inputs().size(); ++i) {
            if (Value* input = node->inputs()[i])
                Internals::uses(*input).push_back({node.get(), i, UseKind::input});
        }
        for (std::size_t i = 0; i < node->captured().size(); ++i) {
            Internals::uses(*node->captured()[i]).push_back({node.get(), i, UseKind::captured});
        }
    }
    for (std::size_t i = 0; i < graph.outputs().size(); ++i) {
        Internals::uses(*graph.outputs()[i]).push_back({nullptr, i, UseKind::graphOutput});
    }
}

}  // namespace tcompress::ir
