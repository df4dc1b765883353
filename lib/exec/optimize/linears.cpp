// MatMul and Gemm with constant weights become linear layers; bias, activation and residual after a linear layer become
// its epilogue: y = residual + activation(alpha · x · W + bias).

#include "kernels/activation.h"
#include "lib/exec/attributes.h"
#include "lib/exec/operator.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

namespace {

// Inputs of Linear, and of Int8Linear and CodedLinear.
constexpr std::size_t kLinearBias = 2;
constexpr std::size_t kCodedBias = 4;

std::optional<std::size_t> biasInput(const PlanNode& node) {
    if (node.is(kFusedDomain, "Linear")) return kLinearBias;
    if (node.is(kFusedDomain, "Int8Linear") || node.is(kFusedDomain, "CodedLinear")) return kCodedBias;
    return std::nullopt;
}

std::int64_t activationOf(const PlanNode& node) { return Attributes(*node.proto).integer("activation", 0); }

bool isRealMatrix(const Tensor* weights) { return weights && weights->rank() == 2 && weights->dtype() == DType::float32; }

void toLinear(Rewriter& rewriter, PlanNode& node) {
    const Tensor* weights = rewriter.constant(node.input(1));
    const DType type = rewriter.graph().value(node.input(0)).dtype;
    if (!isRealMatrix(weights) || (type != DType::float32 && type != DType::undefined)) return;
    const Attributes attributes(*node.proto);
    const bool gemm = node.is("Gemm");
    ValueId bias = kNoValue;
    if (gemm) {
        const bool transposed = attributes.integer("transB", 0) != 0;
        const std::int64_t columns = weights->shape()[transposed ? 0 : 1];
        bias = node.input(2);
        const Tensor* addend = rewriter.constant(bias);
        const bool plainBias = bias == kNoValue || (addend && addend->size() == columns && addend->rank() >= 1 &&
                                                    addend->shape().back() == columns && attributes.real("beta", 1) == 1.0F);
        if (attributes.integer("transA", 0) || !plainBias) return;
    }
    PlanNode linear = rewriter.make(kFusedDomain, "Linear", {node.input(0), node.input(1), bias, kNoValue}, node.outputs, node.label());
    if (gemm) {
        setAttribute(protoOf(linear), "transB", attributes.integer("transB", 0));
        setAttribute(protoOf(linear), "alpha", attributes.real("alpha", 1));
    }
    rewriter.replace(node, std::move(linear));
}

std::int64_t columnsOf(const Rewriter& rewriter, const PlanNode& linear) {
    const Attributes attributes(*linear.proto);
    if (attributes.has("N")) return attributes.integer("N", 0);
    const Tensor* weights = rewriter.constant(linear.input(1));
    return weights->shape()[attributes.integer("transB", 0) ? 0 : 1];
}

/// Add(linear, constant vector).
void absorbBias(Rewriter& rewriter, PlanNode& add) {
    for (std::size_t i = 0; i < 2; ++i) {
        PlanNode* linear = rewriter.producer(add.input(i));
        const auto at = linear ? biasInput(*linear) : std::nullopt;
        const ValueId bias = add.input(1 - i);
        const Tensor* vector = rewriter.constant(bias);
        if (!at || !vector || !rewriter.vanishes(add.input(i)) || linear->input(*at) != kNoValue) continue;
        if (linear->input(*at + 1) != kNoValue || activationOf(*linear) != 0) continue;
        const std::int64_t columns = columnsOf(rewriter, *linear);
        if (vector->dtype() != DType::float32 || vector->size() != columns || vector->rank() != 1) continue;
        std::vector<ValueId> inputs = linear->inputs;
        inputs[*at] = bias;
        rewriter.replace(add, rewriter.copyOf(*linear, std::move(inputs), add.outputs));
        return;
    }
}

std::int64_t standaloneActivation(const PlanNode& node) {
    using kernels::Activation;
    if (node.is(kFusedDomain, "Activation")) return activationOf(node);
    if (node.is("Relu")) return static_cast<std::int64_t>(Activation::relu);
    if (node.is("Tanh")) return static_cast<std::int64_t>(Activation::tanh);
    if (node.is("Sigmoid")) return static_cast<std::int64_t>(Activation::sigmoid);
    if (node.is("Gelu")) {
        const bool tanhForm = Attributes(*node.proto).text("approximate", "none") == "tanh";
        return static_cast<std::int64_t>(tanhForm ? Activation::geluTanh : Activation::geluErf);
    }
    return 0;
}

void absorbActivation(Rewriter& rewriter, PlanNode& node, std::int64_t activation) {
    PlanNode* linear = rewriter.producer(node.input(0));
    const auto at = linear ? biasInput(*linear) : std::nullopt;
    if (!at || !rewriter.vanishes(node.input(0)) || linear->input(*at + 1) != kNoValue || activationOf(*linear) != 0) return;
    PlanNode fused = rewriter.copyOf(*linear, linear->inputs, node.outputs);
    setAttribute(protoOf(fused), "activation", activation);
    rewriter.replace(node, std::move(fused));
}

/// com.microsoft BiasGelu and FastGelu add a bias of their own.
void absorbBiasGelu(Rewriter& rewriter, PlanNode& node) {
    PlanNode* linear = rewriter.producer(node.input(0));
    const auto at = linear ? biasInput(*linear) : std::nullopt;
    const ValueId bias = node.input(1);
    if (!at || !rewriter.vanishes(node.input(0)) || linear->input(*at + 1) != kNoValue || activationOf(*linear) != 0) return;
    if (bias != kNoValue && (linear->input(*at) != kNoValue || !rewriter.constant(bias) ||
                             rewriter.constant(bias)->size() != columnsOf(rewriter, *linear))) {
        return;
    }
    std::vector<ValueId> inputs = linear->inputs;
    if (bias != kNoValue) inputs[*at] = bias;
    PlanNode fused = rewriter.copyOf(*linear, std::move(inputs), node.outputs);
    const auto form = node.opType() == "FastGelu" ? kernels::Activation::geluTanh : kernels::Activation::geluErf;
    setAttribute(protoOf(fused), "activation", static_cast<std::int64_t>(form));
    rewriter.replace(node, std::move(fused));
}

/// Add(linear, value): when shapes turn out to differ at run time, the layer adds with broadcasting after itself.
void absorbResidual(Rewriter& rewriter, PlanNode& add) {
    for (std::size_t i = 0; i < 2; ++i) {
        PlanNode* linear = rewriter.producer(add.input(i));
        const auto at = linear ? biasInput(*linear) : std::nullopt;
        const ValueId residual = add.input(1 - i);
        if (!at || !rewriter.vanishes(add.input(i)) || linear->input(*at + 1) != kNoValue || residual == add.input(i)) continue;
        if (rewriter.constant(residual)) continue;
        std::vector<ValueId> inputs = linear->inputs;
        inputs[*at + 1] = residual;
        rewriter.replace(add, rewriter.copyOf(*linear, std::move(inputs), add.outputs));
        return;
    }
}

}  // namespace

void fuseLinears(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        if (node.is("MatMul") || node.is("Gemm")) toLinear(rewriter, node);
    });
    rewriter.forEach([&](PlanNode& node) {
        if (node.is("Add")) absorbBias(rewriter, node);
    });
    rewriter.finish();
}

void fuseEpilogues(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        if (node.is(kContribDomain, "BiasGelu") || node.is(kContribDomain, "FastGelu")) {
            absorbBiasGelu(rewriter, node);
        } else if (const std::int64_t activation = standaloneActivation(node)) {
            absorbActivation(rewriter, node, activation);
        } else if (node.is("Add")) {
            absorbResidual(rewriter, node);
        }
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
