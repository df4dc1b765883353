// Weight-only quantization as ONNX files spell it, MatMul or Gemm of a float32 x with a DequantizeLinear of
// constant weights (one scale, one a column, or blocks along the summed axis) or MatMulNBits, becomes one
// linear layer that keeps the weights in their 2, 4 or 8 bits and decodes them inside the product.

#include "kernels/matmul_coded.h"
#include "lib/exec/attributes.h"
#include "lib/exec/operator.h"
#include "lib/exec/optimize/codes.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

namespace {

constexpr TypeSet kCodeTypes{DType::int8, DType::uint8, DType::int4, DType::uint4, DType::int2, DType::uint2};

bool isFloat32(const Rewriter& rewriter, ValueId value) {
    const DType type = rewriter.graph().value(value).dtype;
    return type == DType::float32 || type == DType::undefined;
}

/// Values of k that share a scale; nothing when the scales do not fit.
std::optional<std::int64_t> blockOf(const PlanNode& dequantize, const Tensor& weights, const Tensor& scales,
                                    std::size_t sumAxis) {
    const std::int64_t k = weights.shape()[sumAxis];
    const std::int64_t n = weights.shape()[1 - sumAxis];
    const Attributes attributes(*dequantize.proto);
    const std::int64_t given = attributes.integer("axis", 1);
    const auto axis = static_cast<std::size_t>(given < 0 ? given + 2 : given);
    if (scales.size() == 1 && scales.rank() <= 1) return k;
    if (scales.rank() == 1)
        return axis == 1 - sumAxis && scales.size() == n ? std::optional(k) : std::nullopt;
    if (scales.rank() != 2 || axis != sumAxis || scales.shape()[1 - sumAxis] != n ||
        scales.shape()[sumAxis] <= 0)
        return std::nullopt;
    const std::int64_t blocks = scales.shape()[sumAxis];
    const std::int64_t asked = attributes.integer("block_size", 0);
    const std::int64_t block = asked > 0 ? asked : (k + blocks - 1) / blocks;
    return (k + block - 1) / block == blocks ? std::optional(block) : std::nullopt;
}

void fuseProduct(Rewriter& rewriter, PlanNode& product) {
    const PlanNode* dequantize = rewriter.producer(product.input(1));
    if (!dequantize || !isDequantize(*dequantize) || !isFloat32(rewriter, product.input(0))) return;
    const Attributes attributes(*product.proto);
    const bool transposed = product.is("Gemm") && attributes.integer("transB", 0) != 0;
    const Tensor* weights = rewriter.constant(dequantize->input(0));
    const Tensor* scales = rewriter.constant(dequantize->input(1));
    const ValueId zeros = dequantize->input(2);
    if (!weights || weights->rank() != 2 || !kCodeTypes.contains(weights->dtype()) || !scales ||
        scales->dtype() != DType::float32)
        return;
    if (zeros != kNoValue &&
        (!rewriter.constant(zeros) || rewriter.constant(zeros)->size() != scales->size()))
        return;
    const std::size_t sumAxis = transposed ? 1 : 0;
    const std::int64_t k = weights->shape()[sumAxis];
    const std::int64_t n = weights->shape()[1 - sumAxis];
    const auto block = blockOf(*dequantize, *weights, *scales, sumAxis);
    if (!block || k == 0 || n == 0 || kernels::refuseCodes(bitsPerElement(weights->dtype()), *block, k))
        return;
    ValueId bias = kNoValue;
    if (product.is("Gemm")) {
        bias = product.input(2);
        const Tensor* vector = rewriter.constant(bias);
        const bool plain = attributes.integer("transA", 0) == 0 && attributes.real("beta", 1) == 1.0F;
        if (!plain || (bias != kNoValue && (!vector || vector->dtype() != DType::float32 ||
                                            vector->rank() != 1 || vector->size() != n)))
            return;
    }
    PlanNode linear =
        rewriter.make(kFusedDomain, "CodedLinear",
                      {product.input(0), dequantize->input(0), dequantize->input(1), zeros, bias, kNoValue},
                      product.outputs, product.label());
    setAttribute(protoOf(linear), "N", n);
    setAttribute(protoOf(linear), "block_size", *block);
    setAttribute(protoOf(linear), "sum_axis", static_cast<std::int64_t>(sumAxis));
    if (product.is("Gemm")) setAttribute(protoOf(linear), "alpha", attributes.real("alpha", 1));
    rewriter.replace(product, std::move(linear));
}

/// The weights of MatMulNBits are rows of packed bytes, a whole number a block.
void fuseNBits(Rewriter& rewriter, PlanNode& product) {
    const Attributes attributes(*product.proto);
    const std::int64_t bits = attributes.integer("bits", 4);
    const std::int64_t k = attributes.integer("K", 0);
    const std::int64_t n = attributes.integer("N", 0);
    const std::int64_t block = attributes.integer("block_size", 32);
    const Tensor* weights = rewriter.constant(product.input(1));
    const Tensor* scales = rewriter.constant(product.input(2));
    const Tensor* zeros = rewriter.constant(product.input(3));
    if (!weights || !scales || (product.input(3) != kNoValue && !zeros) || product.input(4) != kNoValue ||
        !isFloat32(rewriter, product.input(0)))
        return;
    if ((bits != 2 && bits != 4 && bits != 8) || k <= 0 || n <= 0 || block <= 0 || block * bits % 8 != 0)
        return;
    const std::int64_t blocks = (k + block - 1) / block;
    const std::int64_t zeroCount =
        zeros && zeros->dtype() == DType::uint8 ? n * ((blocks * bits + 7) / 8) : n * blocks;
    const bool fits = weights->dtype() == DType::uint8 && weights->size() == n * blocks * block * bits / 8 &&
                      scales->size() == n * blocks && (!zeros || zeros->size() == zeroCount);
    const Tensor* bias = rewriter.constant(product.input(5));
    const bool plainBias =
        product.input(5) == kNoValue || (bias && bias->dtype() == DType::float32 && bias->size() == n);
    if (!fits || !plainBias || kernels::refuseCodes(static_cast<int>(bits), block, k)) return;
    PlanNode linear = rewriter.make(
        kFusedDomain, "CodedLinear",
        {product.input(0), product.input(1), product.input(2), product.input(3), product.input(5), kNoValue},
        product.outputs, product.label());
    setAttribute(protoOf(linear), "K", k);
    setAttribute(protoOf(linear), "N", n);
    setAttribute(protoOf(linear), "bits", bits);
    setAttribute(protoOf(linear), "block_size", block);
    rewriter.replace(product, std::move(linear));
}

}  // namespace

void fuseCodedLinears(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        if (node.is("MatMul") || node.is("Gemm")) fuseProduct(rewriter, node);
        if (node.is(kContribDomain, "MatMulNBits")) fuseNBits(rewriter, node);
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
