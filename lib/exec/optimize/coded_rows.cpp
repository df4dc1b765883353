// Sums and normalizations between DequantizeLinear and QuantizeLinear take codes and give codes; float32
// exists a few rows at a time.

#include "lib/exec/operator.h"
#include "lib/exec/optimize/codes.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

namespace {

/// A dequantized value that is computed.
struct Coded {
    ValueId value = kNoValue;
    kernels::Int8Code code;
};
std::optional<Coded> codedInput(const Rewriter& rewriter, ValueId value) {
    const PlanNode* dequantize = rewriter.producer(value);
    const auto code =
        dequantize && isDequantize(*dequantize) ? tensorCode(rewriter, dequantize) : std::nullopt;
    return code && !rewriter.constant(dequantize->input(0))
               ? std::optional(Coded{dequantize->input(0), *code})
               : std::nullopt;
}

void fuseAdd(Rewriter& rewriter, PlanNode& quantize, const PlanNode& add, const kernels::Int8Code& code) {
    const auto a = codedInput(rewriter, add.input(0));
    const auto b = codedInput(rewriter, add.input(1));
    if (!a || !b) return;
    PlanNode fused =
        rewriter.make(kFusedDomain, "CodedAdd", {a->value, b->value}, quantize.outputs, add.label());
    setCode(fused, "a", a->code);
    setCode(fused, "b", b->code);
    setCode(fused, "y", code);
    rewriter.replace(quantize, std::move(fused));
}

void fuseNormalization(Rewriter& rewriter, PlanNode& quantize, const PlanNode& norm,
                       const kernels::Int8Code& code) {
    const auto x = codedInput(rewriter, norm.input(0));
    const Tensor* gamma = rewriter.constant(norm.input(1));
    const Tensor* beta = rewriter.constant(norm.input(2));
    const Attributes attributes(*norm.proto);
    const bool vectors = gamma && gamma->rank() == 1 && gamma->dtype() == DType::float32 &&
                         (norm.input(2) == kNoValue ||
                          (beta && beta->shape() == gamma->shape() && beta->dtype() == DType::float32));
    if (!x || !vectors || attributes.integer("axis", -1) != -1) return;
    PlanNode fused = rewriter.make(kFusedDomain, "CodedNormalization",
                                   {x->value, norm.input(1), norm.input(2)}, quantize.outputs, norm.label());
    setCode(fused, "x", x->code);
    setCode(fused, "y", code);
    setAttribute(protoOf(fused), "epsilon", attributes.real("epsilon", 1e-5F));
    rewriter.replace(quantize, std::move(fused));
}

}  // namespace

void fuseCodedRows(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        const auto code =
            isQuantize(node) && rewriter.vanishes(node.input(0)) ? tensorCode(rewriter, &node) : std::nullopt;
        const PlanNode* source = code ? rewriter.producer(node.input(0)) : nullptr;
        if (!source) return;
        if (source->is("Add")) fuseAdd(rewriter, node, *source, *code);
        if (source->is("LayerNormalization")) fuseNormalization(rewriter, node, *source, *code);
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
