// Operators that only fusion makes, in the domain "tcompress".

#include "lib/exec/ops/attention_support.h"
#include "lib/exec/ops/integer_matmul.h"
#include "lib/exec/ops/matmul_support.h"

namespace tcompress::exec {

namespace {

kernels::Activation activationOf(const NodeInfo& info) {
    return static_cast<kernels::Activation>(info.attributes.integer("activation", 0));
}

/// residual + activation(alpha · x · W + bias). Inputs x, W (constant), [bias], [residual].
Runner makeLinear(const NodeInfo& info) {
    const Transposed transposed = info.attributes.integer("transB", 0) ? Transposed::yes : Transposed::no;
    const float alpha = info.attributes.real("alpha", 1);
    const kernels::Activation activation = activationOf(info);
    auto packed = packMatrix(*info.constant(1), transposed);
    return [=](OpContext& context) {
        runLinear(context, {&context.input(0), packed.get(), context.optionalInput(2), context.optionalInput(3), alpha, activation});
    };
}

const OperatorRow kRows[] = {
    {kFusedDomain, "Linear", 1, makeLinear, TypeSet{DType::float32}, FloatSupport::float32},
};

}  // namespace

std::span<const OperatorRow> fusedOperators() { return kRows; }

}  // namespace tcompress::exec
