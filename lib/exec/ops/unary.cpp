// Functions of one tensor, element by element.

#include <cmath>
#include <limits>

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

using kernels::UnaryOp;

template <UnaryOp op>
constexpr bool kTakesIntegers =
    op == UnaryOp::absolute || op == UnaryOp::negate || op == UnaryOp::sign || op == UnaryOp::bitNot;

template <UnaryOp op>
Runner makeUnary(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor& x = context.input(0);
        visitNumeric(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            if constexpr (op == UnaryOp::bitNot ? std::is_integral_v<T>
                                                : (std::is_floating_point_v<T> || kTakesIntegers<op>)) {
                auto* y = reinterpret_cast<T*>(context.outputInPlace(0, x.dtype(), x.shape()));
                kernels::unary<T>(op, x.data<T>(), std::span<T>(y, static_cast<std::size_t>(x.size())));
            } else {
                refuseType(x.dtype());
            }
        });
    };
}

template <class T>
T boundOf(const Tensor* bound, T fallback) {
    if (!bound) return fallback;
    if (bound->size() != 1) {
        throw ModelError(fmt::format("a bound must be a scalar and has shape {}", toString(bound->shape())));
    }
    return bound->data<T>()[0];
}

/// Bounds are inputs since opset 11, attributes before. One that is left out is the type's largest number, so that infinities
/// are clipped to it.
Runner makeClip(const NodeInfo& info) {
    const auto low = info.attributes.has("min") ? std::optional<float>(info.attributes.real("min", 0)) : std::nullopt;
    const auto high = info.attributes.has("max") ? std::optional<float>(info.attributes.real("max", 0)) : std::nullopt;
    return [low, high](OpContext& context) {
        const Tensor& x = context.input(0);
        visitNumeric(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            using Limits = std::numeric_limits<T>;
            const T from = boundOf<T>(context.optionalInput(1), low ? static_cast<T>(*low) : Limits::lowest());
            const T to = boundOf<T>(context.optionalInput(2), high ? static_cast<T>(*high) : Limits::max());
            auto* y = reinterpret_cast<T*>(context.outputInPlace(0, x.dtype(), x.shape()));
            kernels::clip<T>(x.data<T>(), from, to, std::span<T>(y, static_cast<std::size_t>(x.size())));
        });
    };
}

const OperatorRow kRows[] = {
    {"", "Abs", 6, makeUnary<UnaryOp::absolute>, kNumericTypes},
    {"", "Neg", 6, makeUnary<UnaryOp::negate>, kNumericTypes},
    {"", "Sign", 9, makeUnary<UnaryOp::sign>, kNumericTypes},
    {"", "BitwiseNot", 18, makeUnary<UnaryOp::bitNot>, kIntegerTypes},
    {"", "Exp", 6, makeUnary<UnaryOp::exp>, kFloatTypes},
    {"", "Log", 6, makeUnary<UnaryOp::log>, kFloatTypes},
    {"", "Sqrt", 6, makeUnary<UnaryOp::sqrt>, kFloatTypes},
    {"", "Reciprocal", 6, makeUnary<UnaryOp::reciprocal>, kFloatTypes},
    {"", "Floor", 6, makeUnary<UnaryOp::floor>, kFloatTypes},
    {"", "Ceil", 6, makeUnary<UnaryOp::ceil>, kFloatTypes},
    {"", "Round", 11, makeUnary<UnaryOp::round>, kFloatTypes},
    {"", "Erf", 9, makeUnary<UnaryOp::erf>, kFloatTypes},
    {"", "Tanh", 6, makeUnary<UnaryOp::tanh>, kFloatTypes},
    {"", "Sigmoid", 6, makeUnary<UnaryOp::sigmoid>, kFloatTypes},
    {"", "Softplus", 1, makeUnary<UnaryOp::softplus>, kFloatTypes},
    {"", "Softsign", 1, makeUnary<UnaryOp::softsign>, kFloatTypes},
    {"", "Sin", 7, makeUnary<UnaryOp::sin>, kFloatTypes},
    {"", "Cos", 7, makeUnary<UnaryOp::cos>, kFloatTypes},
    {"", "Tan", 7, makeUnary<UnaryOp::tan>, kFloatTypes},
    {"", "Asin", 7, makeUnary<UnaryOp::asin>, kFloatTypes},
    {"", "Acos", 7, makeUnary<UnaryOp::acos>, kFloatTypes},
    {"", "Atan", 7, makeUnary<UnaryOp::atan>, kFloatTypes},
    {"", "Sinh", 9, makeUnary<UnaryOp::sinh>, kFloatTypes},
    {"", "Cosh", 9, makeUnary<UnaryOp::cosh>, kFloatTypes},
    {"", "Asinh", 9, makeUnary<UnaryOp::asinh>, kFloatTypes},
    {"", "Acosh", 9, makeUnary<UnaryOp::acosh>, kFloatTypes},
    {"", "Atanh", 9, makeUnary<UnaryOp::atanh>, kFloatTypes},
    {"", "Clip", 6, makeClip, kNumericTypes},
};

}  // namespace

std::span<const OperatorRow> unaryOperators() { return kRows; }

}  // namespace tcompress::exec
