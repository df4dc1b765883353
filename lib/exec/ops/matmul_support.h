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

/// Whether the residual has the very shape of the result. When not, the layer runs without it and addResidual follows.
bool fitsInPlace(const Tensor* residual, const Shape& result);
/// Output 0 = output 0 + residual, with broadcasting.
void addResidual(OpContext& context, const Tensor& residual);

}  // namespace tcompress::exec
