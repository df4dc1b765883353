#include "lib/analysis/macs.h"

#include <algorithm>

#include "lib/analysis/einsum.h"

namespace tcompress::analysis {

namespace {

/// Multiply-accumulates of one output element of a convolution: everything of the weight but its output
/// channels.
std::int64_t kernelSize(const Shape& weight) { return elementCount(Shape(weight.begin() + 1, weight.end())); }

}  // namespace

std::int64_t linearMacs(const ModelAxes& axes, const LinearContraction& linear,
                        const ConcreteShapes& shapes) {
    const auto input = shapes.shape(*linear.input);
    const auto output = shapes.shape(*linear.output);
    if (!input || !output) return 0;
    if (linear.node->opType().rfind("Conv", 0) == 0) {
        const auto weight = shapes.shape(*linear.weight);
        return weight ? elementCount(*output) * kernelSize(*weight) : 0;
    }
    // Every input element meets every output feature once.
    return elementCount(*input) * axes.store->size(linear.out);
}

std::int64_t matmulMacs(const ActivationMatmul& matmul, const ConcreteShapes& shapes) {
    const auto a = shapes.shape(*matmul.a);
    const auto output = shapes.shape(*matmul.output);
    if (!a || !output || a->empty()) return 0;
    std::int64_t contracted = a->back();
    if (matmul.node->attributeInt("transA", 0) != 0 && a->size() >= 2) contracted = (*a)[a->size() - 2];
    if (matmul.node->is("Einsum")) {
        const auto equation = parseEinsum(matmul.node->attributeString("equation", ""));
        if (!equation) return 0;
        contracted = 1;
        for (std::size_t i = 0; i < a->size(); ++i) {
            if (equation->output.find(equation->inputs[0].at(i)) == std::string::npos) contracted *= (*a)[i];
        }
    }
    return elementCount(*output) * contracted;
}

std::int64_t attentionMacs(const ModelAxes& axes, const FusedAttention& attention,
                           const ConcreteShapes& shapes) {
    const auto output = shapes.shape(*attention.output);
    const auto key = shapes.shape(*attention.key);
    if (!output || !key || output->size() < 3 || key->size() < 3) return 0;
    const bool perHead = output->size() == 4;
    const std::int64_t queries = perHead ? (*output)[2] : (*output)[1];
    const std::int64_t keys = key->size() == 4 ? (*key)[2] : (*key)[1];
    const AxisStore& store = *axes.store;
    const std::int64_t heads = store.size(attention.group) * store.size(attention.repeat);
    return (*output)[0] * heads * queries * keys *
           (store.size(attention.headDim) + store.size(attention.valueDim));
}

std::int64_t groupedConvMacs(const ir::Node& node, const ConcreteShapes& shapes) {
    if (!node.is("Conv") || node.attributeInt("group", 1) == 1) return 0;
    const auto weight = shapes.shape(*node.input(1));
    const auto output = shapes.shape(*node.output());
    return weight && output ? elementCount(*output) * kernelSize(*weight) : 0;
}

}  // namespace tcompress::analysis
