#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/activation.h"
#include "kernels/elementwise.h"
#include "lib/support/check.h"
#include "lib/support/error.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kGrain = 16384;

template <class T, class Function>
void map(std::span<const T> x, std::span<T> y, Function function) {
    TCOMPRESS_CHECK(x.size() == y.size(), "unary: sizes differ");
    parallelRanges(static_cast<std::int64_t>(x.size()), kGrain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
            y[static_cast<std::size_t>(i)] = function(x[static_cast<std::size_t>(i)]);
    });
}

template <class T>
T logistic(T x) {
    return T{1} / (T{1} + std::exp(-x));
}
template <class T>
T softplusOf(T x) {
    return std::max(x, T{0}) + std::log1p(std::exp(-std::abs(x)));
}

template <class T>
void floatUnary(UnaryOp op, std::span<const T> x, std::span<T> y) {
    // The frequent ones have vectorised kernels.
    if constexpr (std::is_same_v<T, float>) {
        switch (op) {
            case UnaryOp::exp:
                return kernels::apply(RealFunction::exp, x, y);
            case UnaryOp::log:
                return kernels::apply(RealFunction::log, x, y);
            case UnaryOp::erf:
                return kernels::apply(RealFunction::erf, x, y);
            case UnaryOp::tanh:
                return kernels::apply(RealFunction::tanh, x, y);
            case UnaryOp::sigmoid:
                return kernels::apply(RealFunction::sigmoid, x, y);
            case UnaryOp::softplus:
                return kernels::apply(RealFunction::softplus, x, y);
            default:
                break;
        }
    }
    switch (op) {
        case UnaryOp::absolute:
            return map(x, y, [](T v) { return std::abs(v); });
        case UnaryOp::negate:
            return map(x, y, [](T v) { return -v; });
        case UnaryOp::sign:
            return map(x, y, [](T v) { return v > 0 ? T{1} : v < 0 ? T{-1} : v; });
        case UnaryOp::bitNot:
            throw KernelError("bitwise not needs integers");
        case UnaryOp::exp:
            return map(x, y, [](T v) { return std::exp(v); });
        case UnaryOp::log:
            return map(x, y, [](T v) { return std::log(v); });
        case UnaryOp::sqrt:
            return map(x, y, [](T v) { return std::sqrt(v); });
        case UnaryOp::reciprocal:
            return map(x, y, [](T v) { return T{1} / v; });
        case UnaryOp::floor:
            return map(x, y, [](T v) { return std::floor(v); });
        case UnaryOp::ceil:
            return map(x, y, [](T v) { return std::ceil(v); });
        case UnaryOp::round:
            return map(x, y, [](T v) { return std::nearbyint(v); });
        case UnaryOp::erf:
            return map(x, y, [](T v) { return std::erf(v); });
        case UnaryOp::tanh:
            return map(x, y, [](T v) { return std::tanh(v); });
        case UnaryOp::sigmoid:
            return map(x, y, logistic<T>);
        case UnaryOp::softplus:
            return map(x, y, softplusOf<T>);
        case UnaryOp::softsign:
            return map(x, y, [](T v) { return v / (T{1} + std::abs(v)); });
        case UnaryOp::sin:
            return map(x, y, [](T v) { return std::sin(v); });
        case UnaryOp::cos:
            return map(x, y, [](T v) { return std::cos(v); });
        case UnaryOp::tan:
            return map(x, y, [](T v) { return std::tan(v); });
        case UnaryOp::asin:
            return map(x, y, [](T v) { return std::asin(v); });
        case UnaryOp::acos:
            return map(x, y, [](T v) { return std::acos(v); });
        case UnaryOp::atan:
            return map(x, y, [](T v) { return std::atan(v); });
        case UnaryOp::sinh:
            return map(x, y, [](T v) { return std::sinh(v); });
        case UnaryOp::cosh:
            return map(x, y, [](T v) { return std::cosh(v); });
        case UnaryOp::asinh:
            return map(x, y, [](T v) { return std::asinh(v); });
        case UnaryOp::acosh:
            return map(x, y, [](T v) { return std::acosh(v); });
        case UnaryOp::atanh:
            return map(x, y, [](T v) { return std::atanh(v); });
    }
}

template <class T>
void integerUnary(UnaryOp op, std::span<const T> x, std::span<T> y) {
    using U = std::make_unsigned_t<T>;
    const auto negated = [](T v) { return static_cast<T>(U{0} - static_cast<U>(v)); };
    switch (op) {
        case UnaryOp::absolute:
            return map(x, y, [&](T v) { return v < 0 ? negated(v) : v; });
        case UnaryOp::negate:
            return map(x, y, negated);
        case UnaryOp::sign:
            return map(x, y, [](T v) { return static_cast<T>((v > 0) - (v < 0)); });
        case UnaryOp::bitNot:
            return map(x, y, [](T v) { return static_cast<T>(~v); });
        default:
            throw KernelError("this element-wise function needs a floating-point type");
    }
}

}  // namespace

template <class T>
void unary(UnaryOp op, std::span<const T> x, std::span<T> y) {
    if constexpr (std::is_floating_point_v<T>)
        floatUnary(op, x, y);
    else
        integerUnary(op, x, y);
}

template <class T>
void unary(const ParametricUnary& op, std::span<const T> x, std::span<T> y) {
    const auto alpha = static_cast<T>(op.alpha);
    const auto beta = static_cast<T>(op.beta);
    switch (op.op) {
        case ParametricOp::leakyRelu:
            return map(x, y, [=](T v) { return v < 0 ? alpha * v : v; });
        case ParametricOp::elu:
            return map(x, y, [=](T v) { return v < 0 ? alpha * std::expm1(v) : v; });
        case ParametricOp::selu:
            return map(x, y, [=](T v) { return beta * (v > 0 ? v : alpha * std::expm1(v)); });
        case ParametricOp::celu:
            return map(x, y, [=](T v) { return v > 0 ? v : alpha * std::expm1(v / alpha); });
        case ParametricOp::hardSigmoid:
            return map(x, y, [=](T v) { return std::clamp(alpha * v + beta, T{0}, T{1}); });
        case ParametricOp::hardSwish:
            return map(x, y, [=](T v) { return v * std::clamp(alpha * v + beta, T{0}, T{1}); });
        case ParametricOp::thresholdedRelu:
            return map(x, y, [=](T v) { return v > alpha ? v : T{0}; });
        case ParametricOp::mish:
            return map(x, y, [](T v) { return v * std::tanh(softplusOf(v)); });
        case ParametricOp::softshrink:
            return map(x, y, [=](T v) { return v > alpha ? v - beta : v < -alpha ? v + beta : T{0}; });
    }
}

template <class T>
void clip(std::span<const T> x, T low, T high, std::span<T> y) {
    map(x, y, [=](T v) {
        const T raised = v < low ? low : v;
        return raised > high ? high : raised;
    });
}

#define TCOMPRESS_INSTANTIATE(T)                                    \
    template void unary(UnaryOp, std::span<const T>, std::span<T>); \
    template void clip(std::span<const T>, T, T, std::span<T>);
TCOMPRESS_INSTANTIATE(float)
TCOMPRESS_INSTANTIATE(double)
TCOMPRESS_INSTANTIATE(std::int8_t)
TCOMPRESS_INSTANTIATE(std::uint8_t)
TCOMPRESS_INSTANTIATE(std::int16_t)
TCOMPRESS_INSTANTIATE(std::uint16_t)
TCOMPRESS_INSTANTIATE(std::int32_t)
TCOMPRESS_INSTANTIATE(std::uint32_t)
TCOMPRESS_INSTANTIATE(std::int64_t)
TCOMPRESS_INSTANTIATE(std::uint64_t)
#undef TCOMPRESS_INSTANTIATE
template void unary(const ParametricUnary&, std::span<const float>, std::span<float>);
template void unary(const ParametricUnary&, std::span<const double>, std::span<double>);

}  // namespace tcompress::kernels
