// Static quantization as ONNX files spell it, "QDQ":
//   y = MatMul(DequantizeLinear(q), DequantizeLinear(W))          [→ QuantizeLinear → DequantizeLinear] [→
//   Add(bias)]
// becomes one 8-bit linear layer that reads the codes q and multiplies 8-bit integers. A QuantizeLinear of
// what comes out of such a layer, epilogue included, is done by the layer.

#include "lib/exec/operator.h"
#include "lib/exec/optimize/codes.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

namespace {

/// A stored 8-bit matrix with one scale, or one a column of the product.
struct StoredMatrix {
    ValueId weights = kNoValue, scales = kNoValue, zeroPoints = kNoValue;
    std::int64_t columns = 0;
};

std::optional<StoredMatrix> storedMatrix(const Rewriter& rewriter, ValueId value, bool transposed) {
    const PlanNode* dequantize = rewriter.producer(value);
    if (!dequantize || !isDequantize(*dequantize)) return std::nullopt;
    const Tensor* weights = rewriter.constant(dequantize->input(0));
    const Tensor* scales = rewriter.constant(dequantize->input(1));
    const ValueId zeros = dequantize->input(2);
    const Tensor* zero = rewriter.constant(zeros);
    if (!weights || weights->rank() != 2 || !kByteTypes.contains(weights->dtype()) || !scales ||
        scales->dtype() != DType::float32)
        return std::nullopt;
    if (zeros != kNoValue && (!zero || zero->size() != scales->size())) return std::nullopt;
    const std::size_t columnAxis = transposed ? 0 : 1;
    const std::int64_t columns = weights->shape()[columnAxis];
    const std::int64_t axis = Attributes(*dequantize->proto).integer("axis", 1);
    const bool perTensor = scales->size() == 1 && scales->rank() <= 1;
    const bool perColumn = scales->rank() == 1 && scales->size() == columns &&
                           (axis < 0 ? axis + 2 : axis) == static_cast<std::int64_t>(columnAxis);
    if (!perTensor && !perColumn) return std::nullopt;
    return StoredMatrix{dequantize->input(0), dequantize->input(1), zeros, columns};
}

bool isVector(const Tensor* tensor, std::int64_t size) {
    return tensor && tensor->dtype() == DType::float32 && tensor->rank() == 1 && tensor->size() == size;
}

/// MatMul → Q → DQ → Add(vector): where the layer's bias is added after a rounding.
struct RoundedBias {
    PlanNode* add = nullptr;
    ValueId bias = kNoValue;
    kernels::Int8Code code;
};
std::optional<RoundedBias> roundedBias(const Rewriter& rewriter, const PlanNode& product,
                                       std::int64_t columns) {
    const PlanNode* quantize = rewriter.soleUser(product.output());
    const auto code = quantize && isQuantize(*quantize) ? tensorCode(rewriter, quantize) : std::nullopt;
    const PlanNode* dequantize = code ? rewriter.soleUser(quantize->output()) : nullptr;
    const auto again =
        dequantize && isDequantize(*dequantize) ? tensorCode(rewriter, dequantize) : std::nullopt;
    PlanNode* add = again && sameCode(*code, *again) ? rewriter.soleUser(dequantize->output()) : nullptr;
    if (!add || !add->is("Add")) return std::nullopt;
    const ValueId bias = add->input(add->input(0) == dequantize->output() ? 1 : 0);
    if (!isVector(rewriter.constant(bias), columns)) return std::nullopt;
    return RoundedBias{add, bias, *code};
}

void fuseOne(Rewriter& rewriter, PlanNode& product) {
    const Attributes attributes(*product.proto);
    const bool gemm = product.is("Gemm");
    const bool transposed = gemm && attributes.integer("transB", 0) != 0;
    const PlanNode* input = rewriter.producer(product.input(0));
    const auto code = input && isDequantize(*input) ? tensorCode(rewriter, input) : std::nullopt;
    const auto matrix = storedMatrix(rewriter, product.input(1), transposed);
    if (!code || !matrix) return;
    ValueId bias = kNoValue;
    if (gemm) {
        bias = product.input(2);
        const bool plain = attributes.integer("transA", 0) == 0 && attributes.real("alpha", 1) == 1.0F &&
                           attributes.real("beta", 1) == 1.0F;
        if (!plain || (bias != kNoValue && !isVector(rewriter.constant(bias), matrix->columns))) return;
    }
    PlanNode* last = &product;
    const auto rounded = bias == kNoValue ? roundedBias(rewriter, product, matrix->columns) : std::nullopt;
    if (rounded) {
        last = rounded->add;
        bias = rounded->bias;
    }
    PlanNode linear =
        rewriter.make(kFusedDomain, "Int8Linear",
                      {input->input(0), matrix->weights, matrix->scales, matrix->zeroPoints, bias, kNoValue},
                      last->outputs, product.label());
    setCode(linear, "x", *code);
    if (rounded) setCode(linear, "before_bias", rounded->code);
    if (transposed) setAttribute(protoOf(linear), "transB", std::int64_t{1});
    rewriter.replace(*last, std::move(linear));
}

}  // namespace

void fuseQuantizedLinears(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        if (node.is("MatMul") || node.is("Gemm")) fuseOne(rewriter, node);
    });
    rewriter.finish();
}

void absorbQuantization(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        const auto code = isQuantize(node) ? tensorCode(rewriter, &node) : std::nullopt;
        const PlanNode* linear =
            code && rewriter.vanishes(node.input(0)) ? rewriter.producer(node.input(0)) : nullptr;
        // A residual may have to be broadcast, which the layer does after itself, on floats.
        if (!linear || !linear->is(kFusedDomain, "Int8Linear") || linear->input(5) != kNoValue) return;
        PlanNode coded = rewriter.copyOf(*linear, linear->inputs, node.outputs);
        setCode(coded, "y", *code);
        rewriter.replace(node, std::move(coded));
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
