#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/broadcast_loop.h"
#include "kernels/elementwise.h"
#include "kernels/multiversion.h"
#include "lib/support/check.h"
#include "lib/support/error.h"

namespace tcompress::kernels {

namespace {

/// Integer arithmetic in an unsigned type at least as wide as int: it wraps around where signed types are
/// undefined.
template <class T>
using Wrapping = std::common_type_t<std::make_unsigned_t<T>, unsigned>;

template <class T>
T integerPower(T base, std::uint64_t exponent) {
    Wrapping<T> result = 1;
    for (Wrapping<T> factor = static_cast<Wrapping<T>>(base); exponent > 0; exponent >>= 1, factor *= factor)
        if (exponent & 1) result *= factor;
    return static_cast<T>(result);
}

template <class T, class E>
T powerOf(T base, E exponent) {
    if constexpr (std::is_floating_point_v<T>) {
        if (exponent == E{2}) return base * base;
        return static_cast<T>(std::pow(base, static_cast<T>(exponent)));
    } else if constexpr (std::is_floating_point_v<E>) {
        return static_cast<T>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
    } else {
        if (std::is_signed_v<E> && exponent < E{0})
            return static_cast<T>(base == T{1} ? T{1}
                                  : std::is_signed_v<T> && base == static_cast<T>(-1)
                                      ? static_cast<T>(exponent % 2 == 0 ? 1 : -1)
                                      : T{0});
        return integerPower(base, static_cast<std::uint64_t>(exponent));
    }
}

template <BinaryOp kOp, class T>
TCOMPRESS_INLINE T apply(T a, T b) {
    constexpr bool kInteger = std::is_integral_v<T>;
    if constexpr (kOp == BinaryOp::add) {
        if constexpr (kInteger)
            return static_cast<T>(static_cast<Wrapping<T>>(a) + static_cast<Wrapping<T>>(b));
        else
            return a + b;
    } else if constexpr (kOp == BinaryOp::subtract) {
        if constexpr (kInteger)
            return static_cast<T>(static_cast<Wrapping<T>>(a) - static_cast<Wrapping<T>>(b));
        else
            return a - b;
    } else if constexpr (kOp == BinaryOp::multiply) {
        if constexpr (kInteger)
            return static_cast<T>(static_cast<Wrapping<T>>(a) * static_cast<Wrapping<T>>(b));
        else
            return a * b;
    } else if constexpr (kOp == BinaryOp::divide) {
        if constexpr (kInteger) {
            if (b == 0) return 0;
            if (std::is_signed_v<T> && b == static_cast<T>(-1))
                return static_cast<T>(Wrapping<T>{0} - static_cast<Wrapping<T>>(a));
            return static_cast<T>(a / b);
        } else {
            return a / b;
        }
    } else if constexpr (kOp == BinaryOp::power) {
        return powerOf(a, b);
    } else if constexpr (kOp == BinaryOp::modulo || kOp == BinaryOp::fmod) {
        if constexpr (kInteger) {
            if (b == 0 || (std::is_signed_v<T> && b == static_cast<T>(-1))) return 0;
            const T rest = static_cast<T>(a % b);
            return kOp == BinaryOp::modulo && rest != 0 && (rest < 0) != (b < 0) ? static_cast<T>(rest + b)
                                                                                 : rest;
        } else {
            const T rest = std::fmod(a, b);
            return kOp == BinaryOp::modulo && rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
        }
    } else if constexpr (kOp == BinaryOp::minimum) {
        return a != a ? a : a < b ? a : b;
    } else if constexpr (kOp == BinaryOp::maximum) {
        return a != a ? a : a > b ? a : b;
    } else if constexpr (kInteger) {
        constexpr T kBits = static_cast<T>(sizeof(T) * 8);
        if constexpr (kOp == BinaryOp::bitAnd) return static_cast<T>(a & b);
        if constexpr (kOp == BinaryOp::bitOr) return static_cast<T>(a | b);
        if constexpr (kOp == BinaryOp::bitXor) return static_cast<T>(a ^ b);
        const bool allShiftedOut = b < 0 || b >= kBits;
        if constexpr (kOp == BinaryOp::shiftLeft)
            return allShiftedOut ? T{0} : static_cast<T>(static_cast<Wrapping<T>>(a) << b);
        return static_cast<T>(a >> (allShiftedOut ? kBits - 1 : b) >> (allShiftedOut ? 1 : 0));
    } else {
        return a;
    }
}

/// The three shapes of an innermost row; each vectorises for simple operators.
template <BinaryOp kOp, class T>
TCOMPRESS_INLINE void rowOf(const T* a, std::int64_t aStride, const T* b, std::int64_t bStride, T* y,
                            std::int64_t count) {
    if (aStride == 1 && bStride == 1) {
        for (std::int64_t i = 0; i < count; ++i) y[i] = apply<kOp>(a[i], b[i]);
    } else if (aStride == 1 && bStride == 0) {
        const T right = *b;
        for (std::int64_t i = 0; i < count; ++i) y[i] = apply<kOp>(a[i], right);
    } else if (aStride == 0 && bStride == 1) {
        const T left = *a;
        for (std::int64_t i = 0; i < count; ++i) y[i] = apply<kOp>(left, b[i]);
    } else {
        for (std::int64_t i = 0; i < count; ++i) y[i] = apply<kOp>(a[i * aStride], b[i * bStride]);
    }
}

template <class T>
TCOMPRESS_INLINE void dispatchRow(BinaryOp op, const T* a, std::int64_t aStride, const T* b,
                                  std::int64_t bStride, T* y, std::int64_t count) {
    switch (op) {
#define TCOMPRESS_OP(name) \
    case BinaryOp::name:   \
        return rowOf<BinaryOp::name>(a, aStride, b, bStride, y, count)
        TCOMPRESS_OP(add);
        TCOMPRESS_OP(subtract);
        TCOMPRESS_OP(multiply);
        TCOMPRESS_OP(divide);
        TCOMPRESS_OP(power);
        TCOMPRESS_OP(modulo);
        TCOMPRESS_OP(fmod);
        TCOMPRESS_OP(minimum);
        TCOMPRESS_OP(maximum);
        TCOMPRESS_OP(bitAnd);
        TCOMPRESS_OP(bitOr);
        TCOMPRESS_OP(bitXor);
        TCOMPRESS_OP(shiftLeft);
        TCOMPRESS_OP(shiftRight);
#undef TCOMPRESS_OP
    }
}

// float32 is what models spend their time on, so only it is compiled for each instruction set; the others are
// compiled for size ("cold"): fourteen operators on nine types would take half a minute otherwise.
TCOMPRESS_MULTIVERSION void binaryRow(BinaryOp op, const float* a, std::int64_t aStride, const float* b,
                                      std::int64_t bStride, float* y, std::int64_t count) {
    dispatchRow(op, a, aStride, b, bStride, y, count);
}
template <class T>
[[gnu::cold]] void binaryRow(BinaryOp op, const T* a, std::int64_t aStride, const T* b, std::int64_t bStride,
                             T* y, std::int64_t count) {
    dispatchRow(op, a, aStride, b, bStride, y, count);
}

bool isBitOp(BinaryOp op) {
    return op == BinaryOp::bitAnd || op == BinaryOp::bitOr || op == BinaryOp::bitXor ||
           op == BinaryOp::shiftLeft || op == BinaryOp::shiftRight;
}

}  // namespace

template <class T>
void binary(BinaryOp op, const Broadcast& plan, const T* a, const T* b, T* y) {
    if (!std::is_integral_v<T> && isBitOp(op)) throw KernelError("bit operators need integers");
    forEachRow<2>(
        plan, [&](std::int64_t position, const auto& offsets, const auto& strides, std::int64_t count) {
            binaryRow(op, a + offsets[0], strides[0], b + offsets[1], strides[1], y + position, count);
        });
}

template <class T, class E>
void power(const Broadcast& plan, const T* a, const E* exponent, T* y) {
    forEachRow<2>(plan, [&](std::int64_t position, const auto& offsets, const auto& strides,
                            std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i)
            y[position + i] = powerOf(a[offsets[0] + i * strides[0]], exponent[offsets[1] + i * strides[1]]);
    });
}

#define TCOMPRESS_INSTANTIATE(T)                                               \
    template void binary(BinaryOp, const Broadcast&, const T*, const T*, T*);  \
    template void power(const Broadcast&, const T*, const float*, T*);         \
    template void power(const Broadcast&, const T*, const double*, T*);        \
    template void power(const Broadcast&, const T*, const std::int32_t*, T*);  \
    template void power(const Broadcast&, const T*, const std::int64_t*, T*);  \
    template void power(const Broadcast&, const T*, const std::uint32_t*, T*); \
    template void power(const Broadcast&, const T*, const std::uint64_t*, T*);
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

}  // namespace tcompress::kernels
