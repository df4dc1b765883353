#pragma once
// Sixteen floats at a time, and the elementary functions on them. GCC's vector types become one AVX-512
// register, two AVX registers or four SSE ones, as the function that these are inlined into
// (TCOMPRESS_MULTIVERSION) is compiled. Polynomials: minimax fits (Lawson's algorithm) made for this file;
// errors are stated at each.

#include <bit>
#include <cstdint>
#include <cstring>

#include "kernels/activation.h"
#include "kernels/multiversion.h"

namespace tcompress::kernels {

constexpr int kLanes = 16;
using FloatVector = float __attribute__((vector_size(64)));
using IntVector = std::int32_t __attribute__((vector_size(64)));
using UintVector = std::uint32_t __attribute__((vector_size(64)));

TCOMPRESS_INLINE FloatVector loadVector(const float* source) {
    FloatVector value;
    std::memcpy(&value, source, sizeof value);
    return value;
}
TCOMPRESS_INLINE void storeVector(float* target, FloatVector value) {
    std::memcpy(target, &value, sizeof value);
}

/// x − 0 is x for every x (x + 0 is not, for −0), so this compiles to a plain broadcast.
TCOMPRESS_INLINE FloatVector broadcastVector(float value) { return value - FloatVector{}; }

/// The first `count` lanes; the others are `fill`. Never reads past source + count.
TCOMPRESS_INLINE FloatVector loadPart(const float* source, std::int64_t count, float fill = 0.0F) {
    FloatVector value = broadcastVector(fill);
    std::memcpy(&value, source, static_cast<std::size_t>(count) * sizeof(float));
    return value;
}
TCOMPRESS_INLINE void storePart(float* target, FloatVector value, std::int64_t count) {
    std::memcpy(target, &value, static_cast<std::size_t>(count) * sizeof(float));
}

/// NaN in x stays (the comparison is false).
TCOMPRESS_INLINE FloatVector minVector(FloatVector x, float bound) {
    const FloatVector limit = broadcastVector(bound);
    return x > limit ? limit : x;
}
TCOMPRESS_INLINE FloatVector maxVector(FloatVector x, float bound) {
    const FloatVector limit = broadcastVector(bound);
    return x < limit ? limit : x;
}
TCOMPRESS_INLINE FloatVector absVector(FloatVector x) {
    return std::bit_cast<FloatVector>(std::bit_cast<IntVector>(x) & 0x7fffffff);
}
/// |magnitude| with the sign of `sign`.
TCOMPRESS_INLINE FloatVector withSign(FloatVector magnitude, FloatVector sign) {
    return std::bit_cast<FloatVector>(
        (std::bit_cast<IntVector>(magnitude) & 0x7fffffff) |
        (std::bit_cast<IntVector>(sign) & static_cast<std::int32_t>(0x80000000)));
}

/// Lanes joined in a fixed tree: halves, quarters, then one by one.
template <class Join>
TCOMPRESS_INLINE float foldLanes(FloatVector x, Join join) {
    using Half = float __attribute__((vector_size(32)));
    using Quarter = float __attribute__((vector_size(16)));
    struct Halves {
        Half low, high;
    };
    struct Quarters {
        Quarter low, high;
    };
    const auto halves = std::bit_cast<Halves>(x);
    const auto quarters = std::bit_cast<Quarters>(join(halves.low, halves.high));
    const Quarter last = join(quarters.low, quarters.high);
    return join(join(last[0], last[2]), join(last[1], last[3]));
}
TCOMPRESS_INLINE float sumLanes(FloatVector x) {
    return foldLanes(
        x, [](auto a, auto b) __attribute__((always_inline)) { return a + b; });
}
TCOMPRESS_INLINE float maxLanes(FloatVector x) {
    return foldLanes(
        x, [](auto a, auto b) __attribute__((always_inline)) { return a < b ? b : a; });
}

/// e^x with its power of two apart: e^x = mantissa · 2^exponent. x = n·ln 2 + r (Cody and Waite), e^r = 1 + r
/// + r²·Q(r).
struct SplitExp {
    FloatVector mantissa;
    IntVector exponent;
};
TCOMPRESS_INLINE SplitExp splitExp(FloatVector x) {
    constexpr float kRound = 12582912.0F;  // 1.5·2^23: adding it rounds to an integer in the low bits
    const FloatVector shifted = x * 1.442695041F + kRound;
    const FloatVector n = shifted - kRound;
    FloatVector r = x - n * 0.693359375F;
    r = r - n * -2.12194440e-4F;
    FloatVector q = r * 0.001381455920636654F + 0.008368735201656818F;
    q = q * r + 0.04166838899254799F;
    q = q * r + 0.1666652113199234F;
    q = q * r + 0.4999999403953552F;
    q = q * r + 1.0F;
    return {q * r + 1.0F, std::bit_cast<IntVector>(shifted) - std::bit_cast<std::int32_t>(kRound)};
}

/// e^x; ≤ 2 ulp. Overflows to infinity, underflows gradually.
TCOMPRESS_INLINE FloatVector expVector(FloatVector x) {
    const SplitExp split = splitExp(maxVector(minVector(x, 89.0F), -104.0F));
    // 2^n in two factors: n reaches 128 and −150, further than one exponent field.
    const IntVector half = split.exponent >> 1;
    const FloatVector first = std::bit_cast<FloatVector>((half + 127) << 23);
    const FloatVector second = std::bit_cast<FloatVector>((split.exponent - half + 127) << 23);
    return split.mantissa * first * second;
}

/// e^x for −87 ≤ x ≤ 0 (or NaN), where the result is a normal number and 2^n is one addition to its exponent.
TCOMPRESS_INLINE FloatVector expOfModerate(FloatVector x) {
    const SplitExp split = splitExp(x);
    return std::bit_cast<FloatVector>(std::bit_cast<IntVector>(split.mantissa) + (split.exponent << 23));
}

/// e^x for x ≤ 0 (or NaN); 0 where e^x is below 1.7e-38.
TCOMPRESS_INLINE FloatVector expNonPositive(FloatVector x) {
    const FloatVector value = expOfModerate(maxVector(x, -87.0F));
    return x < -87.0F ? FloatVector{} : value;
}

/// 2^x for −126 ≤ x ≤ 126 (or NaN); ≤ 2 ulp. x = n + r with n the nearest integer, 2^r = 1 + r·Q(r), and 2^n is one
/// addition to the exponent.
TCOMPRESS_INLINE FloatVector exp2OfModerate(FloatVector x) {
    constexpr float kRound = 12582912.0F;  // 1.5·2^23: adding it rounds to an integer in the low bits
    const FloatVector shifted = x + kRound;
    const FloatVector r = x - (shifted - kRound);
    FloatVector q = r * 0.001326472731307149F + 0.009671512991189957F;
    q = q * r + 0.05550733581185341F;
    q = q * r + 0.24022242426872253F;
    q = q * r + 0.6931470036506653F;
    // The shift leaves nothing of kRound's own bits.
    return std::bit_cast<FloatVector>(std::bit_cast<IntVector>(q * r + 1.0F) +
                                      (std::bit_cast<IntVector>(shifted) << 23));
}

/// 2^x for x ≤ 0 (or NaN); 0 where it would be below the normal numbers.
TCOMPRESS_INLINE FloatVector exp2NonPositive(FloatVector x) {
    const FloatVector value = exp2OfModerate(maxVector(x, -126.0F));
    return x < -126.0F ? FloatVector{} : value;
}

/// tanh x: x + x³·Q(x²) below 0.625, (1 − e^−2|x|)/(1 + e^−2|x|) above; ≤ 3 ulp.
TCOMPRESS_INLINE FloatVector tanhVector(FloatVector x) {
    const FloatVector magnitude = absVector(x);
    const FloatVector square = x * x;
    FloatVector q = square * -0.005591016728430986F + 0.020538819953799248F;
    q = q * square + -0.05370965600013733F;
    q = q * square + 0.133310928940773F;
    q = q * square + -0.33333268761634827F;
    const FloatVector small = (q * square) * x + x;
    const FloatVector e = expNonPositive(magnitude * -2.0F);
    const FloatVector large = (1.0F - e) / (1.0F + e);
    return withSign(magnitude < 0.625F ? small : large, x);
}

TCOMPRESS_INLINE FloatVector sigmoidVector(FloatVector x) { return 1.0F / (1.0F + expVector(-x)); }

/// erf x: x + x·Q(x²) below 0.92, 1 − exp(−t·Q(t)) above; ≤ 3 ulp.
TCOMPRESS_INLINE FloatVector erfVector(FloatVector x) {
    const FloatVector magnitude = absVector(x);
    const FloatVector square = x * x;
    FloatVector q = square * -0.0005953773506917059F + 0.004985948093235493F;
    q = q * square + -0.026761727407574654F;
    q = q * square + 0.11281682550907135F;
    q = q * square + -0.3761247992515564F;
    q = q * square + 0.12837915122509003F;
    const FloatVector small = q * x + x;
    const FloatVector t = minVector(magnitude, 3.95F);
    FloatVector g = t * -0.0002145950129488483F + 0.0032199753914028406F;
    g = g * t + -0.02290603145956993F;
    g = g * t + 0.1052868515253067F;
    g = g * t + 0.6356993913650513F;
    g = g * t + 1.1285200119018555F;
    const FloatVector large = 1.0F - expOfModerate(-(g * t));
    return magnitude < 0.92F ? small : withSign(large, x);
}

/// x·Φ(x) = max(x, 0) − ½·t·erfc(t/√2) with t = |x|, and ½·erfc(t/√2) = 2^−(1 + t·Q(t)); error ≤ 2^-23 · max(|x|, 1).
/// Beyond 7 the second term is nothing, and its polynomial no longer fits.
TCOMPRESS_INLINE FloatVector geluErfVector(FloatVector x) {
    const FloatVector t = minVector(absVector(x), 7.0F);
    FloatVector q = t * -6.255834705370944e-06F + 3.2120740797836334e-05F;
    q = q * t + 0.0005034221103414893F;
    q = q * t + -0.0075395130552351475F;
    q = q * t + 0.05282888934016228F;
    q = q * t + 0.4590947926044464F;
    q = q * t + 1.151119351387024F;
    return maxVector(x, 0.0F) - t * exp2OfModerate(-(q * t) - 1.0F);
}

/// x · sigmoid(u) with u = −t / log2 e: x / (1 + 2^t).
TCOMPRESS_INLINE FloatVector gatedVector(FloatVector x, FloatVector t) {
    return x / (1.0F + exp2OfModerate(maxVector(minVector(t, 126.0F), -126.0F)));
}
/// x · sigmoid(1.702·x), x · sigmoid(x): errors ≤ 2^-22 · max(|x|, 1).
TCOMPRESS_INLINE FloatVector quickGeluVector(FloatVector x) { return gatedVector(x, x * -2.4554669F); }
TCOMPRESS_INLINE FloatVector siluVector(FloatVector x) { return gatedVector(x, x * -1.4426950F); }
/// x · sigmoid(2u), u = √(2/π)·(x + 0.044715·x³); error ≤ 2^-22 · max(|x|, 1).
TCOMPRESS_INLINE FloatVector geluTanhVector(FloatVector x) {
    return gatedVector(x, (x * x * -0.10294324F - 2.3022082F) * x);
}

/// ln x: x = 2^e·(1 + f) with 1 + f in [√½, √2), ln(1 + f) = f − f²/2 + f³·Q(f); ≤ 2 ulp. ln 0 = −∞, NaN
/// below 0.
TCOMPRESS_INLINE FloatVector logVector(FloatVector x) {
    const auto tiny = x < 1.17549435e-38F;
    const FloatVector scaled = tiny ? x * 0x1p24F : x;
    const UintVector bits = std::bit_cast<UintVector>(scaled);  // unsigned: below zero the differences wrap around
    const IntVector exponent = std::bit_cast<IntVector>(bits - 0x3f3504f3U) >> 23;
    const FloatVector f = std::bit_cast<FloatVector>(bits - (std::bit_cast<UintVector>(exponent) << 23)) - 1.0F;
    FloatVector q = f * 0.0674663856625557F + -0.11675651371479034F;
    q = q * f + 0.11888162791728973F;
    q = q * f + -0.1240558922290802F;
    q = q * f + 0.14219552278518677F;
    q = q * f + -0.1666799634695053F;
    q = q * f + 0.2000211924314499F;
    q = q * f + -0.25000008940696716F;
    q = q * f + 0.3333331346511841F;
    const FloatVector square = f * f;
    const FloatVector e =
        __builtin_convertvector(exponent, FloatVector) - (tiny ? broadcastVector(24.0F) : FloatVector{});
    FloatVector tail = (q * f) * square - square * 0.5F;
    tail = e * -2.12194440e-4F + tail;
    FloatVector result = e * 0.693359375F + (tail + f);
    const float infinity = __builtin_inff();
    result = x == infinity ? x : result;
    result = x == 0.0F ? broadcastVector(-infinity) : result;
    return (x < 0.0F || x != x) ? broadcastVector(__builtin_nanf("")) : result;
}

/// One activation on one vector; the branch on `activation` is the same for all lanes and all calls of a
/// loop.
template <Activation kActivation>
TCOMPRESS_INLINE FloatVector activateVector(FloatVector x) {
    if constexpr (kActivation == Activation::relu) {
        return maxVector(x, 0.0F);
    } else if constexpr (kActivation == Activation::geluErf) {
        return geluErfVector(x);
    } else if constexpr (kActivation == Activation::geluTanh) {
        return geluTanhVector(x);
    } else if constexpr (kActivation == Activation::silu) {
        return siluVector(x);
    } else if constexpr (kActivation == Activation::quickGelu) {
        return quickGeluVector(x);
    } else if constexpr (kActivation == Activation::tanh) {
        return tanhVector(x);
    } else if constexpr (kActivation == Activation::sigmoid) {
        return sigmoidVector(x);
    } else {
        return x;
    }
}

/// Calls body(std::integral_constant of the activation): a loop inside it is compiled once for each.
template <class Body>
TCOMPRESS_INLINE void dispatchActivation(Activation activation, Body&& body) {
    switch (activation) {
        case Activation::none:
            return body.template operator()<Activation::none>();
        case Activation::relu:
            return body.template operator()<Activation::relu>();
        case Activation::geluErf:
            return body.template operator()<Activation::geluErf>();
        case Activation::geluTanh:
            return body.template operator()<Activation::geluTanh>();
        case Activation::silu:
            return body.template operator()<Activation::silu>();
        case Activation::quickGelu:
            return body.template operator()<Activation::quickGelu>();
        case Activation::tanh:
            return body.template operator()<Activation::tanh>();
        case Activation::sigmoid:
            return body.template operator()<Activation::sigmoid>();
    }
}

/// y[i] = f(x[i]) for i < count: whole vectors, then one partial.
template <class Function>
TCOMPRESS_INLINE void mapVectors(const float* x, float* y, std::int64_t count, Function f) {
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) storeVector(y + i, f(loadVector(x + i)));
    if (i < count) storePart(y + i, f(loadPart(x + i, count - i)), count - i);
}

}  // namespace tcompress::kernels
