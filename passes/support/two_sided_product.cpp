#include "passes/support/two_sided_product.h"

#include <utility>

namespace tcompress::passes {

TwoSidedProduct::TwoSidedProduct(std::vector<float> left, std::span<const float> right, std::int64_t inputs)
    : inputs_(inputs), left_(std::move(left)), right_(kernels::packWeights(right.data(), inputs, inputs)) {}

void TwoSidedProduct::operator()(std::span<const float> values, std::span<float> product, std::span<const float> added) {
    kernels::PackedMatmul call;
    call.m = static_cast<std::int64_t>(values.size()) / inputs_;
    call.a = values.data();
    call.aStride = call.cStride = call.epilogue.residualStride = inputs_;
    call.weights = right_.get();
    const auto finish = [&] {
        call.c = product.data();
        call.epilogue.residual = added.empty() ? nullptr : added.data();
        kernels::matmul(call);
    };
    if (left_.empty()) return finish();
    between_.resize(values.size());
    call.c = between_.data();
    kernels::matmul(call);
    // Now what was multiplied is the operand to pack.
    const kernels::PackedWeightsPtr packed = kernels::packWeights(between_.data(), call.m, inputs_);
    call.a = left_.data();
    call.aStride = call.m;
    call.weights = packed.get();
    finish();
}

}  // namespace tcompress::passes
