#include "lib/exec/optimize/cluster.h"

#include <algorithm>

#include "lib/exec/program.h"

namespace tcompress::exec {

namespace {

bool isScalarConstant(const Rewriter& rewriter, ValueId id) {
    const Tensor* constant = rewriter.constant(id);
    return constant && constant->size() == 1;
}

}  // namespace

std::vector<Cluster> clustersAbove(const Rewriter& rewriter, const PlanNode& last, std::size_t largest,
                                   const std::function<bool(const PlanNode&)>& accepts) {
    std::vector<Cluster> found;
    std::set<const PlanNode*> nodes{&last};
    while (nodes.size() <= largest) {
        std::set<ValueId> open;
        for (const PlanNode* node : nodes) {
            for (ValueId id : node->inputs) {
                if (id == kNoValue || isScalarConstant(rewriter, id)) continue;
                const PlanNode* producer = rewriter.producer(id);
                if (!producer || !nodes.contains(producer)) open.insert(id);
            }
        }
        if (open.size() == 1) found.push_back({nodes, *open.begin()});
        const PlanNode* next = nullptr;
        for (ValueId id : open) {
            const PlanNode* producer = rewriter.producer(id);
            if (!producer || !accepts(*producer) || rewriter.constant(id)) continue;
            const auto& users = rewriter.users(id);
            const bool inside = std::all_of(users.begin(), users.end(),
                                            [&](const PlanNode* user) { return nodes.contains(user); });
            if (inside) next = producer;
        }
        if (!next) break;
        nodes.insert(next);
    }
    return found;
}

Tensor evaluate(const Rewriter& rewriter, const Cluster& cluster, const PlanNode& last, const Tensor& x) {
    PlanGraph part;
    part.opsets = rewriter.graph().opsets;
    part.values = rewriter.graph().values;
    for (PlanValue& value : part.values) value.kept = false;
    std::vector<const PlanNode*> order;
    // Depth first from the end gives a topological order.
    const auto visit = [&](auto&& self, const PlanNode* node) -> void {
        if (std::find(order.begin(), order.end(), node) != order.end()) return;
        for (ValueId id : node->inputs) {
            const PlanNode* producer = id == cluster.source ? nullptr : rewriter.producer(id);
            if (producer && cluster.nodes.contains(producer)) self(self, producer);
        }
        order.push_back(node);
    };
    visit(visit, &last);
    for (const PlanNode* node : order) part.nodes.push_back(*node);
    part.inputs = {cluster.source};
    part.outputs = {last.output()};
    Profile profile;
    Allocator allocator;
    return Program(std::move(part), profile, nullptr).run(allocator, {x}).front().tensor;
}

}  // namespace tcompress::exec
