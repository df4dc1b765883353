// Exporters ask the shape of whatever tensor is at hand: Gather(Shape(y), 0) where y = x · W + b has x's batch. Asking x
// instead lets y become an inner value of a fused layer.

#include <set>

#include "lib/exec/attributes.h"
#include "lib/exec/operator.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

namespace {

struct Axis {
    ValueId value = kNoValue;
    std::int64_t index = 0;
};

bool keepsShape(const PlanNode& node) {
    static const std::set<std::string, std::less<>> kinds{"LayerNormalization", "SimplifiedLayerNormalization", "Softmax", "Erf",
                                                         "Tanh", "Sigmoid", "Relu", "Gelu", "Cast", "Identity", "Activation"};
    return (node.domain.empty() || node.domain == kFusedDomain) && kinds.contains(node.opType());
}

bool isLinear(const Rewriter& rewriter, const PlanNode& node) {
    if (node.is(kFusedDomain, "Linear") || node.is(kFusedDomain, "Int8Linear")) return true;
    const Tensor* weights = node.is("MatMul") ? rewriter.constant(node.input(1)) : nullptr;
    return weights && weights->rank() == 2;
}

std::optional<std::int64_t> rankOf(const PlanGraph& graph, ValueId value) {
    const ir::Value* source = graph.value(value).source;
    const auto shape = source ? source->shape() : std::nullopt;
    return shape ? std::optional(static_cast<std::int64_t>(shape->size())) : std::nullopt;
}

/// An earlier value with an axis of the same size, or none.
std::optional<Axis> earlier(const Rewriter& rewriter, const PlanGraph& graph, Axis axis) {
    const PlanNode* node = rewriter.producer(axis.value);
    if (!node) return std::nullopt;
    if (keepsShape(*node) && node->output(0) == axis.value) return Axis{node->input(0), axis.index};
    if (node->is("Transpose")) {
        const auto permutation = Attributes(*node->proto).integers("perm");
        if (!permutation) return std::nullopt;
        return Axis{node->input(0), permutation->at(static_cast<std::size_t>(axis.index))};
    }
    const auto rank = rankOf(graph, axis.value);
    if (!rank || axis.index >= *rank - 1) return std::nullopt;
    if (node->is("Split")) {
        const std::int64_t split = Attributes(*node->proto).integer("axis", 0);
        return axis.index == (split < 0 ? split + *rank : split) ? std::nullopt : std::optional(Axis{node->input(0), axis.index});
    }
    if (isLinear(rewriter, *node)) return Axis{node->input(0), axis.index};
    if (node->is("Add") || node->is("Mul") || node->is("Div") || node->is("Sub")) {
        for (std::size_t i = 0; i < 2; ++i) {
            const Tensor* vector = rewriter.constant(node->input(i));
            if (vector && vector->rank() <= 1) return Axis{node->input(1 - i), axis.index};
        }
    }
    return std::nullopt;
}

}  // namespace

void forwardShapes(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        if (!node.is("Gather")) return;
        const PlanNode* shape = rewriter.producer(node.input(0), "Shape");
        const Tensor* index = rewriter.constant(node.input(1));
        if (!shape || shape->proto->attribute_size() > 0 || !index || index->size() != 1) return;
        Axis axis{shape->input(0), toInt64(*index).front()};
        if (axis.index < 0) return;
        bool moved = false;
        // A Transpose alone is no gain (its output costs nothing to keep), and passing it may tie up the value before it.
        for (std::optional<Axis> next = earlier(rewriter, graph, axis); next; next = earlier(rewriter, graph, *next)) {
            if (rewriter.producer(next->value, "Transpose")) continue;
            axis = *next;
            moved = true;
        }
        if (!moved) return;
        const ValueId source = rewriter.insertBefore(node, "", "Shape", {axis.value}, DType::int64, shape->version);
        const ValueId position =
            graph.addConstant(node.label() + "/axis", index->rank() == 0 ? Tensor::scalar(axis.index) : Tensor::of<std::int64_t>({1}, {axis.index}));
        PlanNode gather = rewriter.make("", "Gather", {source, position}, node.outputs, node.label(), node.version);
        rewriter.replace(node, std::move(gather));
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
