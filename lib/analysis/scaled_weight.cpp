#include "lib/analysis/scaled_weight.h"

#include <algorithm>

#include "lib/tensor/dtype.h"

namespace tcompress::analysis {

namespace {

/// Longer ways from a scale to its weight are not followed: int4 rows, the longest known, take 9 steps.
constexpr int kMostSteps = 16;

template <class... Names>
bool isOneOf(const ir::Node& node, Names... names) {
    return ((node.opType() == names) || ...);
}

/// Inputs of an operator on integers that are scales and zero points, and the one that holds the weight.
const ir::Value* quantizedOperand(const ir::Node& node, std::size_t index) {
    if (isOneOf(node, "QuantizeLinear", "DequantizeLinear")) return index >= 1 ? node.input(0) : nullptr;
    if (isOneOf(node, "MatMulInteger", "ConvInteger")) return index >= 2 ? node.input(1) : nullptr;
    if (isOneOf(node, "MatMulNBits")) return index == 2 || index == 3 ? node.input(1) : nullptr;
    return nullptr;
}

bool isQuantized(DType type) { return isInteger(type) && bitsPerElement(type) <= 8; }

/// The constant that a value is made of by operators that only move, unpack or shift integers.
const ir::Value* integerWeightBehind(const ir::Value* value) {
    for (int step = 0; value != nullptr && step < kMostSteps; ++step) {
        if (value->constant() != nullptr) return isQuantized(value->dtype()) ? value : nullptr;
        const ir::Node* node = value->producer();
        if (node == nullptr) return nullptr;
        if (isOneOf(*node, "MatMulInteger", "ConvInteger")) {
            value = node->input(1);
        } else if (isOneOf(*node, "Cast", "Gather", "Slice", "Reshape", "Transpose", "Concat", "Sub",
                           "BitShift", "Identity")) {
            value = node->input(0);
        } else {
            return nullptr;
        }
    }
    return nullptr;
}

/// The scale of activations, which a scale of weights is multiplied with first.
bool isActivationScale(const ir::Value& value) {
    return value.producer() != nullptr && value.producer()->opType() == "DynamicQuantizeLinear";
}

const ir::Value* follow(const ir::Value& scale, int steps) {
    if (steps == 0) return nullptr;
    for (const ir::Use& use : scale.uses()) {
        if (use.kind != ir::UseKind::input) continue;
        const ir::Node& node = *use.node;
        if (const ir::Value* operand = quantizedOperand(node, use.index)) return integerWeightBehind(operand);
        const bool moves = use.index == 0 &&
                           isOneOf(node, "Cast", "Gather", "Reshape", "Transpose", "Unsqueeze", "Identity");
        const ir::Value* other = isOneOf(node, "Mul") ? node.input(1 - use.index) : nullptr;
        if (other != nullptr && !isActivationScale(*other)) {
            if (const ir::Value* weight = integerWeightBehind(other)) return weight;
        } else if ((moves || other != nullptr) && node.output() != nullptr) {
            if (const ir::Value* weight = follow(*node.output(), steps - 1)) return weight;
        }
    }
    return nullptr;
}

}  // namespace

const ir::Value* scaledWeight(const ir::Value& constant) { return follow(constant, kMostSteps); }

}  // namespace tcompress::analysis
