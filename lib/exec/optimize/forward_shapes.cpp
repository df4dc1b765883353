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
                                                         "Tanh", "Sigmoid", "Relu", "Gelu", "Cast", "Identity", "Activation", "QuantizeLinear", "DequantizeLinear"};
    return (node.domain.empty() || node.domain == kFusedDomain) && kinds.contains(node.opType());
}

bool isLinear(const Rewriter& rewriter, const PlanNode& node) {
    if (node.is(kFusedDomain, "Linear") || node.is(kFusedDomain, "Int8Linear") || node.is(kFusedDomain, "CodedLinear")) return true;
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

/// Where entry `index` of a Reshape's target comes from, when it is the size of another value's axis.
std::optional<Axis> reshapedFrom(const Rewriter& rewriter, const PlanNode& reshape, std::int64_t index) {
    const PlanNode* parts = rewriter.producer(reshape.input(1), "Concat");
    if (!parts || index >= static_cast<std::int64_t>(parts->inputs.size())) return std::nullopt;
    for (ValueId part : parts->inputs) {
        const Tensor* constant = rewriter.constant(part);
        if (constant ? constant->size() != 1 : !rewriter.producer(part, "Unsqueeze")) return std::nullopt;
    }
    const PlanNode* unsqueeze = rewriter.producer(parts->input(static_cast<std::size_t>(index)), "Unsqueeze");
    const PlanNode* gather = unsqueeze ? rewriter.producer(unsqueeze->input(0), "Gather") : nullptr;
    const PlanNode* shape = gather ? rewriter.producer(gather->input(0), "Shape") : nullptr;
    const Tensor* position = shape ? rewriter.constant(gather->input(1)) : nullptr;
    if (!position || position->size() != 1 || shape->proto->attribute_size() > 0 || toInt64(*position).front() < 0) return std::nullopt;
    return Axis{shape->input(0), toInt64(*position).front()};
}

/// The one axis that Gather(Shape(y), i) or Slice(Shape(y), i, i + 1) asks for.
std::optional<Axis> askedAxis(const Rewriter& rewriter, const PlanGraph& graph, const PlanNode& node) {
    const PlanNode* shape = rewriter.producer(node.input(0), "Shape");
    const Tensor* position = shape ? rewriter.constant(node.input(1)) : nullptr;
    if (!position || shape->proto->attribute_size() > 0 || position->size() != 1) return std::nullopt;
    const std::int64_t index = toInt64(*position).front();
    if (node.is("Gather")) return index >= 0 ? std::optional(Axis{shape->input(0), index}) : std::nullopt;
    const Tensor* end = rewriter.constant(node.input(2));
    const bool plain = node.input(4) == kNoValue || (rewriter.constant(node.input(4)) && toInt64(*rewriter.constant(node.input(4))).front() == 1);
    auto rank = rankOf(graph, shape->input(0));
    if (const PlanNode* transpose = rewriter.producer(shape->input(0), "Transpose")) {
        if (const auto permutation = Attributes(*transpose->proto).integers("perm")) rank = static_cast<std::int64_t>(permutation->size());
    }
    if (!end || end->size() != 1 || !plain || !rank) return std::nullopt;
    const std::int64_t last = toInt64(*end).front();
    const bool single = last == index + 1 || (index == -1 && last >= *rank);
    return single ? std::optional(Axis{shape->input(0), index < 0 ? index + *rank : index}) : std::nullopt;
}

}  // namespace

void forwardShapes(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        if (!node.is("Gather") && !node.is("Slice")) return;
        const std::optional<Axis> asked = askedAxis(rewriter, graph, node);
        if (!asked) return;
        Axis axis = *asked;
        bool moved = false;
        for (Axis at = axis;;) {
            const PlanNode* producer = rewriter.producer(at.value);
            if (!producer) break;
            const auto next = producer->is("Reshape") ? reshapedFrom(rewriter, *producer, at.index) : earlier(rewriter, graph, at);
            if (!next) break;
            at = *next;
            // Passing a Transpose alone is no gain and may tie up the value before it.
            if (producer->is("Transpose")) continue;
            axis = at;
            moved = true;
        }
        if (!moved) return;
        const bool asScalar = node.is("Gather") && rewriter.constant(node.input(1))->rank() == 0;
        const ValueId source = rewriter.insertBefore(node, "", "Shape", {axis.value}, DType::int64, node.version);
        const ValueId position =
            graph.addConstant(node.label() + "/axis", asScalar ? Tensor::scalar(axis.index) : Tensor::of<std::int64_t>({1}, {axis.index}));
        rewriter.replace(node, rewriter.make("", "Gather", {source, position}, node.outputs, node.label(), node.version));
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
