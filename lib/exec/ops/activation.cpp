// Activation functions of neural networks.

#include <cmath>

#include "kernels/activation.h"
#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

using kernels::Activation;
using kernels::ParametricOp;

void runActivation(Activation activation, OpContext& context) {
    const Tensor& x = context.input(0);
    auto* y = reinterpret_cast<float*>(context.outputInPlace(0, DType::float32, x.shape()));
    kernels::activate(activation, x.data<float>(), {y, static_cast<std::size_t>(x.size())});
}

template <Activation activation>
Runner makeActivation(const NodeInfo&) {
    return [](OpContext& context) { runActivation(activation, context); };
}

Runner makeRelu(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor& x = context.input(0);
        if (x.dtype() == DType::float32) {
            runActivation(Activation::relu, context);
            return;
        }
        visitNumeric(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const auto source = x.data<T>();
            const auto result = context.output<T>(0, x.shape());
            for (std::size_t i = 0; i < source.size(); ++i) result[i] = source[i] < T(0) ? T(0) : source[i];
        });
    };
}

Runner makeGelu(const NodeInfo& info) {
    const bool tanhForm = info.attributes.text("approximate", "none") == "tanh";
    const Activation activation = tanhForm ? Activation::geluTanh : Activation::geluErf;
    return [activation](OpContext& context) { runActivation(activation, context); };
}

/// x · σ(alpha · x): ONNX Swish and com.microsoft QuickGelu.
void runSwish(float alpha, OpContext& context) {
    const Tensor& x = context.input(0);
    const auto source = x.data<float>();
    const auto result = context.output<float>(0, x.shape());
    for (std::size_t i = 0; i < source.size(); ++i) result[i] = alpha * source[i];
    kernels::apply(kernels::RealFunction::sigmoid, result, result);
    for (std::size_t i = 0; i < source.size(); ++i) result[i] *= source[i];
}

template <int thousandths>
Runner makeSwish(const NodeInfo& info) {
    const float alpha = info.attributes.real("alpha", thousandths / 1000.0F);
    if (alpha == 1.0F) return makeActivation<Activation::silu>(info);
    if (alpha == 1.702F) return makeActivation<Activation::quickGelu>(info);
    return [alpha](OpContext& context) { runSwish(alpha, context); };
}

Runner parametric(kernels::ParametricUnary op) {
    return [op](OpContext& context) {
        const Tensor& x = context.input(0);
        visitFloat(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            auto* y = reinterpret_cast<T*>(context.outputInPlace(0, x.dtype(), x.shape()));
            kernels::unary<T>(op, x.data<T>(), std::span<T>(y, static_cast<std::size_t>(x.size())));
        });
    };
}

Runner makeLeakyRelu(const NodeInfo& info) {
    return parametric({ParametricOp::leakyRelu, info.attributes.real("alpha", 0.01F), 0});
}
Runner makeElu(const NodeInfo& info) { return parametric({ParametricOp::elu, info.attributes.real("alpha", 1), 0}); }
Runner makeSelu(const NodeInfo& info) {
    return parametric({ParametricOp::selu, info.attributes.real("alpha", 1.67326319217681884765625F),
                       info.attributes.real("gamma", 1.05070102214813232421875F)});
}
Runner makeCelu(const NodeInfo& info) { return parametric({ParametricOp::celu, info.attributes.real("alpha", 1), 0}); }
Runner makeHardSigmoid(const NodeInfo& info) {
    return parametric(
        {ParametricOp::hardSigmoid, info.attributes.real("alpha", 0.2F), info.attributes.real("beta", 0.5F)});
}
Runner makeHardSwish(const NodeInfo&) { return parametric({ParametricOp::hardSwish, 1.0F / 6.0F, 0.5F}); }
Runner makeThresholdedRelu(const NodeInfo& info) {
    return parametric({ParametricOp::thresholdedRelu, info.attributes.real("alpha", 1), 0});
}
Runner makeMish(const NodeInfo&) { return parametric({ParametricOp::mish, 0, 0}); }

/// y = x + bias below −lambd, x − bias above lambd, 0 between.
Runner makeShrink(const NodeInfo& info) {
    const float lambda = info.attributes.real("lambd", 0.5F);
    const float bias = info.attributes.real("bias", 0);
    return [lambda, bias](OpContext& context) {
        const Tensor& x = context.input(0);
        visitNumeric(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const auto source = x.data<T>();
            const auto result = context.output<T>(0, x.shape());
            for (std::size_t i = 0; i < source.size(); ++i) {
                const auto value = static_cast<double>(source[i]);
                result[i] = value < -lambda ? static_cast<T>(value + bias)
                                            : (value > lambda ? static_cast<T>(value - bias) : T(0));
            }
        });
    };
}

const OperatorRow kRows[] = {
    {"", "Relu", 6, makeRelu, kNumericTypes},
    {"", "Gelu", 20, makeGelu, kFloatTypes, FloatSupport::float32},
    {"", "Swish", 24, makeSwish<1000>, kFloatTypes, FloatSupport::float32},
    {"", "LeakyRelu", 6, makeLeakyRelu, kFloatTypes},
    {"", "Elu", 6, makeElu, kFloatTypes},
    {"", "Selu", 6, makeSelu, kFloatTypes},
    {"", "Celu", 12, makeCelu, kFloatTypes},
    {"", "HardSigmoid", 6, makeHardSigmoid, kFloatTypes},
    {"", "HardSwish", 14, makeHardSwish, kFloatTypes},
    {"", "ThresholdedRelu", 10, makeThresholdedRelu, kFloatTypes},
    {"", "Mish", 18, makeMish, kFloatTypes},
    {"", "Shrink", 9, makeShrink, kNumericTypes},
    {kContribDomain, "Gelu", 1, makeActivation<Activation::geluErf>, kFloatTypes, FloatSupport::float32},
    {kContribDomain, "QuickGelu", 1, makeSwish<1702>, kFloatTypes, FloatSupport::float32},
};

}  // namespace

std::span<const OperatorRow> activationOperators() { return kRows; }

}  // namespace tcompress::exec
