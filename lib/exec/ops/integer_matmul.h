#pragma once
// 8-bit linear layers, shared by the integer operators and their fused form.

#include "kernels/matmul_int8.h"
#include "lib/exec/ops/matmul_support.h"

namespace tcompress::exec {

/// None when the zero point is left out.
std::vector<std::int32_t> zeroPointValues(const Tensor* zeroPoint);

kernels::PackedInt8WeightsPtr packInt8Matrix(const Tensor& weights, const std::vector<std::int32_t>& zeroPoints,
                                             Transposed transposed);

/// A tensor's code from the attributes PREFIX_type, PREFIX_scale and PREFIX_zero_point, if they are there.
std::optional<kernels::Int8Code> codeAttribute(const Attributes& attributes, const std::string& prefix);

/// Output 0 = residual + activation(dequantize(dynamicQuantize(x) · W) + bias).
struct Int8LinearCall {
    const Tensor* x = nullptr;
    const kernels::PackedInt8Weights* weights = nullptr;
    std::span<const float> scales;
    const Tensor* bias = nullptr;
    const Tensor* residual = nullptr;
    kernels::Activation activation = kernels::Activation::none;
};
void runDynamicInt8Linear(OpContext& context, const Int8LinearCall& call);

/// The same for an x of codes; the result is float32 or codes.
struct Int8LinearCodes {
    kernels::Int8Code x;
    std::optional<kernels::Int8Code> beforeBias, y;
};
void runStaticInt8Linear(OpContext& context, const Int8LinearCall& call, const Int8LinearCodes& codes);

}  // namespace tcompress::exec
