#pragma once
// Matrix products of tensors, shared by MatMul, Gemm, Einsum and the contrib forms.

#include "kernels/matmul.h"
#include "lib/exec/ops/support.h"

namespace tcompress::exec {

enum class Transposed { no, yes };

/// The geometry of a (batched, broadcasting) matrix product by NumPy's matmul rules; vectors are promoted.
struct MatmulGeometry {
    Shape batch;
    std::vector<std::int64_t> aBatchStrides, bBatchStrides;
    std::int64_t m = 1, n = 1, k = 1;
    std::int64_t aRow = 0, aColumn = 1, bRow = 0, bColumn = 1;
    Shape result;
};
MatmulGeometry matmulGeometry(const Shape& a, const Shape& b, Transposed transposeA = Transposed::no,
                              Transposed transposeB = Transposed::no);

/// y = alpha · A·B for float32 (alpha in the epilogue), the plain loops for other types (alpha must be 1).
void multiplyInto(const MatmulGeometry& geometry, const Tensor& a, const Tensor& b, std::byte* y,
                  const kernels::Epilogue& epilogue = {});

/// Packs a constant float32 matrix [K, N], or [N, K] when transposed.
kernels::PackedWeightsPtr packMatrix(const Tensor& weights, Transposed transposed);

/// Output 0 = residual + activation(alpha · x · W + bias), rows of x along its last axis.
struct LinearCall {
    const Tensor* x = nullptr;
    const kernels::PackedWeights* weights = nullptr;
    const Tensor* bias = nullptr;
    const Tensor* residual = nullptr;
    float alpha = 1;
    kernels::Activation activation = kernels::Activation::none;
};
void runLinear(OpContext& context, const LinearCall& call);

/// Shape of x · W for W [k, n], and its number of rows. ModelError when x or the bias (may be null) does not fit.
struct LinearShape {
    Shape result;
    std::int64_t rows = 0;
};
LinearShape linearShape(const Tensor& x, std::int64_t k, std::int64_t n, const Tensor* bias);

/// Whether the residual has the very shape of the result. When not, the layer runs without it and addResidual follows.
bool fitsInPlace(const Tensor* residual, const Shape& result);
/// Output 0 = output 0 + residual, with broadcasting.
void addResidual(OpContext& context, const Tensor& residual);

/// What the float32 and the int8 linear layer have in common around their kernel: operands checked, output made, bias
/// and residual handed over. `params` holds what only the one kernel has.
template <class Params, class Call, class Kernel>
void runLinearKernel(OpContext& context, const Call& call, Params params, Kernel kernel) {
    const std::int64_t n = kernels::columns(*call.weights);
    const LinearShape shape = linearShape(*call.x, kernels::rows(*call.weights), n, call.bias);
    params.a = call.x->template data<float>().data();
    params.aStride = kernels::rows(*call.weights);
    params.m = shape.rows;
    params.weights = call.weights;
    params.c = context.output<float>(0, shape.result).data();
    params.cStride = n;
    params.epilogue.activation = call.activation;
    if (call.bias) params.epilogue.bias = call.bias->template data<float>().data();
    const bool inPlace = fitsInPlace(call.residual, shape.result);
    if (inPlace) {
        params.epilogue.residual = call.residual->template data<float>().data();
        params.epilogue.residualStride = n;
    }
    kernel(params);
    if (call.residual && !inPlace) addResidual(context, *call.residual);
}

}  // namespace tcompress::exec
