// Integer products as ONNX files spell them:
//   q, s, z = DynamicQuantizeLinear(x);  y = Cast(MatMulInteger(q, W, z, zw)) · (s · sw)
//   q = QuantizeLinear(x, s, z) with constants, and the same product
// become one 8-bit linear layer. It quantizes x itself where ranges are measured on each run and nothing else reads q; else q
// is made once, and layers read it with its scale and zero point.

#include "lib/exec/attributes.h"
#include "lib/exec/operator.h"
#include "lib/exec/optimize/codes.h"
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

/// Cast → Mul behind a product.
struct Scaled {
    PlanNode* node = nullptr;
    ValueId scales = kNoValue;
};
std::optional<Scaled> scaledBehind(const Rewriter& rewriter, const PlanNode& product) {
    PlanNode* cast = rewriter.soleUser(product.output());
    PlanNode* scaled = cast && cast->is("Cast") ? rewriter.soleUser(cast->output()) : nullptr;
    if (!scaled || !scaled->is("Mul")) return std::nullopt;
    return Scaled{scaled, scaled->input(0) == cast->output() ? scaled->input(1) : scaled->input(0)};
}

void fuseDynamic(Rewriter& rewriter, const PlanNode& quantize, const PlanNode& product, const Scaled& scaled) {
    if (quantize.output(0) != product.input(0) || quantize.output(2) != product.input(2)) return;
    const ValueId scale = weightScale(rewriter, scaled.scales, quantize.output(1));
    if (scale == kNoValue) return;
    std::vector<ValueId> inputs{quantize.input(0), product.input(1), scale, product.input(3), kNoValue, kNoValue};
    if (isShared(rewriter, quantize)) {
        inputs.front() = quantize.output(0);
        inputs.insert(inputs.end(), {quantize.output(1), quantize.output(2)});
    }
    rewriter.replace(*scaled.node, rewriter.make(kFusedDomain, "Int8Linear", std::move(inputs), scaled.node->outputs, scaled.node->label()));
}

/// The product of both scales is one constant by now, so that the codes count as if their own scale were 1.
void fuseStatic(Rewriter& rewriter, const PlanNode& quantize, const PlanNode& product, const Scaled& scaled) {
    auto code = tensorCode(rewriter, &quantize);
    const Tensor* scales = rewriter.constant(scaled.scales);
    const Tensor* zero = rewriter.constant(product.input(2));
    if (!code || !scales || scales->rank() > 1 || scales->dtype() != DType::float32) return;
    const std::int64_t taken = zero && zero->size() == 1 ? toInt64(*zero).front() : 0;
    if ((product.input(2) != kNoValue && (!zero || zero->size() != 1)) || taken != code->zeroPoint) return;
    code->scale = 1;
    PlanNode linear = rewriter.make(kFusedDomain, "Int8Linear",
                                    {product.input(0), product.input(1), scaled.scales, product.input(3), kNoValue, kNoValue},
                                    scaled.node->outputs, scaled.node->label());
    setCode(linear, "x", *code);
    rewriter.replace(*scaled.node, std::move(linear));
}

void fuseOne(Rewriter& rewriter, PlanNode& product) {
    const PlanNode* quantize = rewriter.producer(product.input(0));
    const Tensor* weights = rewriter.constant(product.input(1));
    const ValueId zeroPoint = product.input(3);
    if (!quantize || !weights || weights->rank() != 2) return;
    if (zeroPoint != kNoValue && (!rewriter.constant(zeroPoint) || rewriter.constant(zeroPoint)->rank() > 1)) return;
    const auto scaled = scaledBehind(rewriter, product);
    if (!scaled) return;
    if (quantize->is("DynamicQuantizeLinear"))
        fuseDynamic(rewriter, *quantize, product, *scaled);
    else
        fuseStatic(rewriter, *quantize, product, *scaled);
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
