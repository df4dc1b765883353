#pragma once
// Element-wise operators with multidirectional broadcasting, on every arithmetic type. float32 vectorises;
// the loop over the innermost dimension is specialised for {dense, broadcast} operands. Instantiated for
// float, double, (u)int8/16/32/64 and, where it makes sense, bool.

#include <cstdint>
#include <span>
#include <vector>

namespace tcompress::kernels {

/// The common shape of operands and the stride of each in it (0 where it is broadcast), with neighbouring
/// dimensions merged where every operand allows it.
struct Broadcast {
    std::vector<std::int64_t> shape;                 // of the result, merged
    std::vector<std::vector<std::int64_t>> strides;  // [operand][dimension]

    std::int64_t size() const;
};

/// The result's shape by NumPy's rule. Throws KernelError naming both shapes when they do not go together.
std::vector<std::int64_t> broadcastShape(std::span<const std::int64_t> a, std::span<const std::int64_t> b);
/// Operands are dense; each shape must broadcast to `result`.
Broadcast broadcast(std::span<const std::int64_t> result,
                    std::span<const std::vector<std::int64_t>> operands);

/// Integers: division and mod by zero give 0; mod has the divisor's sign (ONNX Mod fmod=0), fmod the
/// dividend's; pow by repeated squaring. Shifts and bit operators: integers only; a right shift fills with the
/// sign, a shift by less than 0 or by the type's width and more leaves nothing but that filling.
enum class BinaryOp {
    add,
    subtract,
    multiply,
    divide,
    power,
    modulo,
    fmod,
    minimum,
    maximum,
    bitAnd,
    bitOr,
    bitXor,
    shiftLeft,
    shiftRight
};
/// minimum and maximum hand on NaN. y is dense, of `plan.shape`; it may be a or b when that is not broadcast.
template <class T>
void binary(BinaryOp op, const Broadcast& plan, const T* a, const T* b, T* y);
/// base ** exponent where the exponent has another type (ONNX Pow).
template <class T, class E>
void power(const Broadcast& plan, const T* a, const E* exponent, T* y);

enum class CompareOp { equal, less, lessOrEqual, greater, greaterOrEqual };
template <class T>
void compare(CompareOp op, const Broadcast& plan, const T* a, const T* b, bool* y);

enum class LogicalOp { logicalAnd, logicalOr, logicalXor };
void logical(LogicalOp op, const Broadcast& plan, const bool* a, const bool* b, bool* y);

/// y = condition ? a : b. Elements are opaque, elementBytes ∈ {1, 2, 4, 8}. Operands of plan: condition, a,
/// b.
void where(const Broadcast& plan, const bool* condition, const void* a, const void* b, int elementBytes,
           void* y);
/// y = a, broadcast. Operand of plan: a.
void expand(const Broadcast& plan, const void* a, int elementBytes, void* y);

enum class UnaryOp {
    absolute,
    negate,
    sign,
    bitNot,
    // The rest: floating point only.
    exp,
    log,
    sqrt,
    reciprocal,
    floor,
    ceil,
    round,
    erf,
    tanh,
    sigmoid,
    softplus,
    softsign,
    sin,
    cos,
    tan,
    asin,
    acos,
    atan,
    sinh,
    cosh,
    asinh,
    acosh,
    atanh
};
/// y may be x.
template <class T>
void unary(UnaryOp op, std::span<const T> x, std::span<T> y);

/// alpha and beta as the operator defines them.
enum class ParametricOp {
    leakyRelu,
    elu,
    selu,
    celu,
    hardSigmoid,
    hardSwish,
    thresholdedRelu,
    mish,
    softshrink
};
struct ParametricUnary {
    ParametricOp op = ParametricOp::leakyRelu;
    float alpha = 0.0F;
    float beta = 0.0F;
};
template <class T>
void unary(const ParametricUnary& op, std::span<const T> x, std::span<T> y);

/// min(max(x, low), high).
template <class T>
void clip(std::span<const T> x, T low, T high, std::span<T> y);

}  // namespace tcompress::kernels
