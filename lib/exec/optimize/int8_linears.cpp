// Dynamic quantization as ONNX files spell it:
//   q, s, z = DynamicQuantizeLinear(x);  y = Cast(MatMulInteger(q, W, z, zw)) · (s · sw)
// becomes one 8-bit linear layer, which quantizes x itself. Where several products read q, it is made once and they read it
// with its scale and zero point.

#include "lib/exec/attributes.h"
#include "lib/exec/operator.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

namespace {

/// Weights' scale when `scales` is s · constant, or none.
ValueId weightScale(const Rewriter& rewriter, ValueId scales, ValueId activationScale) {
    const PlanNode* product = rewriter.producer(scales, "Mul");
    if (!product) return kNoValue;
    const ValueId other = product->input(0) == activationScale ? product->input(1) : product->input(0);
    const bool mine = product->input(0) == activationScale || product->input(1) == activationScale;
    const Tensor* constant = rewriter.constant(other);
    return mine && constant && constant->rank() <= 1 && constant->dtype() == DType::float32 ? other : kNoValue;
}

/// Whether other products of integers, fused already or not, read the codes too.
bool isShared(const Rewriter& rewriter, const PlanNode& quantize) {
    return rewriter.users(quantize.output(0)).size() > 1;
}

void fuseOne(Rewriter& rewriter, PlanNode& product) {
    const PlanNode* quantize = rewriter.producer(product.input(0), "DynamicQuantizeLinear");
    const Tensor* weights = rewriter.constant(product.input(1));
    if (!quantize || quantize->output(0) != product.input(0) || quantize->output(2) != product.input(2)) return;
    if (!weights || weights->rank() != 2) return;
    const ValueId zeroPoint = product.input(3);
    if (zeroPoint != kNoValue && (!rewriter.constant(zeroPoint) || rewriter.constant(zeroPoint)->rank() > 1)) return;
    PlanNode* cast = rewriter.soleUser(product.output());
    PlanNode* scaled = cast && cast->is("Cast") ? rewriter.soleUser(cast->output()) : nullptr;
    if (!scaled || !scaled->is("Mul")) return;
    const ValueId scales = scaled->input(0) == cast->output() ? scaled->input(1) : scaled->input(0);
    const ValueId scale = weightScale(rewriter, scales, quantize->output(1));
    if (scale == kNoValue) return;
    std::vector<ValueId> inputs{quantize->input(0), product.input(1), scale, zeroPoint, kNoValue, kNoValue};
    if (isShared(rewriter, *quantize)) {
        inputs.front() = quantize->output(0);
        inputs.insert(inputs.end(), {quantize->output(1), quantize->output(2)});
    }
    PlanNode fused = rewriter.make(kFusedDomain, "Int8Linear", std::move(inputs), scaled->outputs, scaled->label());
    rewriter.replace(*scaled, std::move(fused));
}

}  // namespace

void fuseInt8Linears(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        if (node.is("MatMulInteger")) fuseOne(rewriter, node);
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
