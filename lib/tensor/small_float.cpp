#include "lib/tensor/small_float.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "lib/support/check.h"

namespace tcompress {
namespace {

enum class Specials {
    ieee,          ///< the top exponent means infinity and NaN
    topIsNan,      ///< only the all-ones code is NaN; no infinity
    minusZeroNan,  ///< the code of -0 is NaN; no infinity, no -0
    none,          ///< every code is a number
};

enum class Overflow { toInfinity, saturate };

struct Format {
    int exponentBits;
    int mantissaBits;
    int bias;
    Specials specials;
    Overflow overflow;

    int bits() const { return 1 + exponentBits + mantissaBits; }
    std::uint32_t signBit() const { return 1u << (exponentBits + mantissaBits); }
    std::uint32_t infinity() const { return ((1u << exponentBits) - 1) << mantissaBits; }
    std::uint32_t nan() const {
        switch (specials) {
            case Specials::ieee:
                return infinity() | (1u << (mantissaBits - 1));
            case Specials::topIsNan:
                return signBit() - 1;
            case Specials::minusZeroNan:
                return signBit();
            case Specials::none:
                return 0;  // there is nothing better: ONNX's own cases of Cast give (-)0
        }
        return 0;
    }
    std::uint32_t largest() const {
        switch (specials) {
            case Specials::ieee:
                return infinity() - 1;
            case Specials::topIsNan:
                return signBit() - 2;
            default:
                return signBit() - 1;
        }
    }
};

constexpr Format half{5, 10, 15, Specials::ieee, Overflow::toInfinity};
constexpr Format bfloat{8, 7, 127, Specials::ieee, Overflow::toInfinity};
constexpr Format e4m3fn{4, 3, 7, Specials::topIsNan, Overflow::saturate};
constexpr Format e4m3fnuz{4, 3, 8, Specials::minusZeroNan, Overflow::saturate};
constexpr Format e5m2{5, 2, 15, Specials::ieee, Overflow::saturate};
constexpr Format e5m2fnuz{5, 2, 16, Specials::minusZeroNan, Overflow::saturate};
constexpr Format e2m1{2, 1, 1, Specials::none, Overflow::saturate};

const Format* formatOf(DType dtype) {
    switch (dtype) {
        case DType::float16:
            return &half;
        case DType::bfloat16:
            return &bfloat;
        case DType::float8e4m3fn:
            return &e4m3fn;
        case DType::float8e4m3fnuz:
            return &e4m3fnuz;
        case DType::float8e5m2:
            return &e5m2;
        case DType::float8e5m2fnuz:
            return &e5m2fnuz;
        case DType::float4e2m1:
            return &e2m1;
        default:
            return nullptr;
    }
}

constexpr std::uint32_t floatSign = 0x80000000u;
constexpr std::uint32_t floatInfinity = 0x7f800000u;

std::uint32_t shiftRightToNearestEven(std::uint32_t value, int count) {
    std::uint32_t kept = value >> count;
    std::uint32_t rest = value & ((1u << count) - 1);
    std::uint32_t tie = 1u << (count - 1);
    return kept + (rest > tie || (rest == tie && (kept & 1) != 0) ? 1 : 0);
}

std::uint32_t encode(const Format& format, float value) {
    std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    std::uint32_t magnitude = bits & ~floatSign;
    std::uint32_t sign = (bits & floatSign) != 0 ? format.signBit() : 0;
    if (magnitude > floatInfinity)
        return format.nan() | (format.specials == Specials::minusZeroNan ? 0 : sign);

    std::uint32_t code = format.largest() + 1;
    if (magnitude != floatInfinity) {
        // value = significand * 2^(exponent - 23), where a normal number's significand has its leading one.
        auto field = static_cast<int>(magnitude >> 23);
        std::uint32_t significand = (magnitude & 0x7fffffu) | (field > 0 ? 1u << 23 : 0);
        int exponent = std::max(field, 1) - 127 + format.bias;
        // The leading one adds the last 1 to the exponent's field; below the smallest normal number there is
        // none to add to, and the significand moves right instead.
        if (exponent > 1) significand += static_cast<std::uint32_t>(exponent - 1) << 23;
        int drop = 23 - format.mantissaBits + std::max(0, 1 - exponent);
        code = drop > 31 ? 0 : shiftRightToNearestEven(significand, drop);
    }
    if (code > format.largest()) {
        code = format.overflow == Overflow::saturate ? format.largest() : format.infinity();
    }
    if (code == 0 && format.specials == Specials::minusZeroNan) return 0;
    return sign | code;
}

float decode(const Format& format, std::uint32_t code) {
    std::uint32_t magnitude = code & (format.signBit() - 1);
    bool negative = (code & format.signBit()) != 0;
    float nan = std::numeric_limits<float>::quiet_NaN();
    switch (format.specials) {
        case Specials::ieee:
            if (magnitude > format.infinity()) return negative ? -nan : nan;
            if (magnitude == format.infinity()) {
                return negative ? -std::numeric_limits<float>::infinity()
                                : std::numeric_limits<float>::infinity();
            }
            break;
        case Specials::topIsNan:
            if (magnitude == format.nan()) return negative ? -nan : nan;
            break;
        case Specials::minusZeroNan:
            if (code == format.nan()) return nan;
            break;
        case Specials::none:
            break;
    }
    auto exponent = static_cast<int>(magnitude >> format.mantissaBits);
    auto mantissa = static_cast<float>(magnitude & ((1u << format.mantissaBits) - 1));
    auto one = static_cast<float>(1u << format.mantissaBits);
    float value = exponent == 0 ? std::ldexp(mantissa, 1 - format.bias - format.mantissaBits)
                                : std::ldexp(mantissa + one, exponent - format.bias - format.mantissaBits);
    return negative ? -value : value;
}

/// E8M0 is a bare power of two, 2^(code - 127), with 255 as NaN. Rounds up to the next power, which is the
/// default of Cast-25 (a scale that is too small would clip); zero and below have no code and become the
/// smallest.
std::uint16_t encodeE8m0(float value) {
    if (std::isnan(value)) return 255;
    if (value <= 0) return 0;
    if (std::isinf(value)) return 254;
    int exponent;
    float fraction = std::frexp(value, &exponent);  // value = fraction * 2^exponent, fraction in [0.5, 1)
    int code = exponent + 127 - (fraction == 0.5f ? 1 : 0);
    return static_cast<std::uint16_t>(std::clamp(code, 0, 254));
}

float decodeE8m0(std::uint16_t code) {
    return code == 255 ? std::numeric_limits<float>::quiet_NaN()
                       : std::ldexp(1.0f, static_cast<int>(code) - 127);
}

}  // namespace

float roundToOdd(double value) {
    auto nearestValue = static_cast<float>(value);
    if (static_cast<double>(nearestValue) == value || std::isnan(value) || std::isinf(nearestValue))
        return nearestValue;
    // Inexact: of the two neighbours take the one whose last bit is set.
    std::uint32_t bits = std::bit_cast<std::uint32_t>(nearestValue);
    if ((bits & 1) != 0) return nearestValue;
    bool tooLarge = std::fabs(static_cast<double>(nearestValue)) > std::fabs(value);
    return std::bit_cast<float>(tooLarge ? bits - 1 : bits + 1);
}

bool isSmallFloat(DType dtype) { return formatOf(dtype) != nullptr || dtype == DType::float8e8m0; }

std::uint16_t encodeSmallFloat(DType dtype, float value) {
    if (dtype == DType::float8e8m0) return encodeE8m0(value);
    const Format* format = formatOf(dtype);
    TCOMPRESS_CHECK(format != nullptr, "not a small floating-point type");
    return static_cast<std::uint16_t>(encode(*format, value));
}

float decodeSmallFloat(DType dtype, std::uint16_t code) {
    if (dtype == DType::float8e8m0) return decodeE8m0(code);
    const Format* format = formatOf(dtype);
    TCOMPRESS_CHECK(format != nullptr, "not a small floating-point type");
    return decode(*format, code);
}

}  // namespace tcompress
