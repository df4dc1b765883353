// LayerNormalization and RMS normalization spelled out:
//   d = x − mean(x); y = d / sqrt(mean(d²) + ε) · γ + β          (d = x without centring: RMS normalization)
// found from the square root downwards; the reciprocal may be a node of its own.

#include "lib/exec/attributes.h"
#include "lib/exec/operator.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

namespace {

/// The value whose mean over the last axis (kept) `value` is, or none.
ValueId meanedOverLastAxis(const Rewriter& rewriter, ValueId value) {
    const PlanNode* node = rewriter.producer(value, "ReduceMean");
    if (!node) return kNoValue;
    const Attributes attributes(*node->proto);
    if (attributes.integer("keepdims", 1) != 1) return kNoValue;
    std::vector<std::int64_t> axes = attributes.integers("axes").value_or(std::vector<std::int64_t>{});
    if (const Tensor* given = rewriter.constant(node->input(1))) axes = toInt64(*given);
    return axes == std::vector<std::int64_t>{-1} ? node->input(0) : kNoValue;
}

/// The value whose square `value` is, or none.
ValueId squared(const Rewriter& rewriter, ValueId value) {
    if (const PlanNode* power = rewriter.producer(value, "Pow")) {
        return rewriter.scalar(power->input(1)) == 2.0F ? power->input(0) : kNoValue;
    }
    const PlanNode* product = rewriter.producer(value, "Mul");
    return product && product->input(0) == product->input(1) ? product->input(0) : kNoValue;
}

/// x when `value` is x − mean(x), or none.
ValueId centred(const Rewriter& rewriter, ValueId value) {
    const PlanNode* difference = rewriter.producer(value, "Sub");
    if (!difference || meanedOverLastAxis(rewriter, difference->input(1)) != difference->input(0)) return kNoValue;
    return difference->input(0);
}

/// d / root or d · (1 / root): the node, when root is read like that alone.
PlanNode* quotient(const Rewriter& rewriter, ValueId root, ValueId numerator) {
    PlanNode* user = rewriter.soleUser(root);
    if (!user) return nullptr;
    if (user->is("Div") && user->input(1) == root && user->input(0) == numerator) return user;
    const bool reciprocal = user->is("Reciprocal") || (user->is("Div") && user->input(1) == root && rewriter.scalar(user->input(0)) == 1.0F);
    PlanNode* product = reciprocal ? rewriter.soleUser(user->output()) : nullptr;
    if (!product || !product->is("Mul")) return nullptr;
    const ValueId other = product->input(0) == user->output() ? product->input(1) : product->input(0);
    return other == numerator ? product : nullptr;
}

/// The constant vector of the other operand, when `node` is this operator on `value` and one.
ValueId vectorOperand(const Rewriter& rewriter, const PlanNode* node, std::string_view opType, ValueId value) {
    if (!node || !node->is(opType)) return kNoValue;
    const ValueId other = node->input(0) == value ? node->input(1) : node->input(0);
    const Tensor* vector = rewriter.constant(other);
    return vector && vector->rank() == 1 && vector->size() > 1 && vector->dtype() == DType::float32 ? other : kNoValue;
}

}  // namespace

void fuseNormalizations(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& root) {
        if (!root.is("Sqrt")) return;
        const PlanNode* shifted = rewriter.producer(root.input(0), "Add");
        const auto epsilon = shifted ? rewriter.scalarOperand(*shifted) : std::nullopt;
        if (!epsilon) return;
        const ValueId deviation = squared(rewriter, meanedOverLastAxis(rewriter, epsilon->other));
        if (deviation == kNoValue) return;
        PlanNode* normal = quotient(rewriter, root.output(), deviation);
        if (!normal) return;
        PlanNode* scaled = rewriter.soleUser(normal->output());
        const ValueId gamma = vectorOperand(rewriter, scaled, "Mul", normal->output());
        if (gamma == kNoValue) return;
        PlanNode* last = scaled;
        ValueId x = centred(rewriter, deviation);
        std::vector<ValueId> inputs;
        std::string_view opType = "SimplifiedLayerNormalization";
        if (x == kNoValue) {
            x = deviation;
            inputs = {x, gamma};
        } else {
            opType = "LayerNormalization";
            inputs = {x, gamma};
            PlanNode* biased = rewriter.soleUser(scaled->output());
            const ValueId beta = vectorOperand(rewriter, biased, "Add", scaled->output());
            if (beta != kNoValue) {
                inputs.push_back(beta);
                last = biased;
            }
        }
        PlanNode fused = rewriter.make("", opType, inputs, last->outputs, last->label(), 17);
        setAttribute(protoOf(fused), "epsilon", epsilon->scalar);
        rewriter.replace(*last, std::move(fused));
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
