#include "lib/exec/optimize/head_operands.h"

#include "lib/exec/attributes.h"

namespace tcompress::exec {

std::optional<Permutation> permutationOf(const PlanNode& transpose) {
    auto permutation = Attributes(*transpose.proto).integers("perm");
    return permutation && permutation->size() == 4 ? permutation : std::nullopt;
}

Operand headOperand(const Rewriter& rewriter, ValueId value, float* scale) {
    Operand operand{value};
    for (PlanNode* node = rewriter.producer(value); node; node = rewriter.producer(operand.value)) {
        if (node->is("Transpose")) {
            const auto permutation = permutationOf(*node);
            if (!permutation) break;
            for (std::int64_t& axis : operand.permutation)
                axis = (*permutation)[static_cast<std::size_t>(axis)];
            operand.value = node->input(0);
            continue;
        }
        const auto scalar = node->is("Mul") || node->is("Div") ? rewriter.scalarOperand(*node) : std::nullopt;
        if (!scale || !scalar || (node->is("Div") && node->input(0) != scalar->other)) break;
        *scale = node->is("Mul") ? *scale * scalar->scalar : *scale / scalar->scalar;
        operand.value = scalar->other;
    }
    return operand;
}

std::optional<std::int64_t> layoutOf(const Permutation& permutation) {
    if (permutation == Permutation{0, 1, 2, 3}) return kHeadsFirst;
    if (permutation == Permutation{0, 2, 1, 3}) return kRowsFirst;
    return std::nullopt;
}

bool hasFourAxes(const PlanGraph& graph, const Operand& operand) {
    if (operand.permutation != Permutation{0, 1, 2, 3}) return true;
    const ir::Value* known = graph.value(operand.value).source;
    const auto shape = known ? known->shape() : std::nullopt;
    return shape && shape->size() == 4;
}

}  // namespace tcompress::exec
