// Element types into one another: every type is read as double, std::int64_t or std::uint64_t (which hold it
// exactly) and written from there; the pairs that whole models are made of (float32 to and from the 16-bit
// types) go directly.

#include <fmt/core.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "lib/support/error.h"
#include "lib/support/parallel.h"
#include "lib/tensor/bits.h"
#include "lib/tensor/small_float.h"
#include "lib/tensor/tensor.h"

namespace tcompress {
namespace {

constexpr std::int64_t grain = 1 << 16;  // elements: a whole number of bytes for every type

bool isWholeByte(DType dtype) { return bitsPerElement(dtype) >= 8; }

/// Calls visitor(T{}) with the C++ type of a whole-byte arithmetic type; false for the others.
template <class Visitor>
bool visitArithmetic(DType dtype, Visitor&& visitor) {
    switch (dtype) {
        case DType::float32:
            return visitor(float{}), true;
        case DType::float64:
            return visitor(double{}), true;
        case DType::int8:
            return visitor(std::int8_t{}), true;
        case DType::uint8:
            return visitor(std::uint8_t{}), true;
        case DType::int16:
            return visitor(std::int16_t{}), true;
        case DType::uint16:
            return visitor(std::uint16_t{}), true;
        case DType::int32:
            return visitor(std::int32_t{}), true;
        case DType::uint32:
            return visitor(std::uint32_t{}), true;
        case DType::int64:
            return visitor(std::int64_t{}), true;
        case DType::uint64:
            return visitor(std::uint64_t{}), true;
        default:
            return false;
    }
}

template <class To, class From>
To castElement(From value) {
    if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
        if (std::isnan(value)) return 0;
        // The limits as powers of two, which float and double hold exactly.
        constexpr double upper = static_cast<double>(std::numeric_limits<To>::max() / 2 + 1) * 2;
        constexpr double lower = static_cast<double>(std::numeric_limits<To>::min());
        if (static_cast<double>(value) >= upper) return std::numeric_limits<To>::max();
        if (static_cast<double>(value) < lower) return std::numeric_limits<To>::min();
        return static_cast<To>(value);
    } else {
        return static_cast<To>(value);
    }
}

/// Reads element i of any supported type into the widest type of its family and hands it to visit.
template <class Visit>
void readElement(DType dtype, const std::byte* bytes, std::int64_t i, Visit&& visit) {
    if (dtype == DType::boolean) return visit(static_cast<std::int64_t>(bytes[i] != std::byte{0}));
    if (isSmallFloat(dtype) || !isWholeByte(dtype)) {
        std::uint16_t code = readBits(bytes, bitsPerElement(dtype), i);
        if (isSmallFloat(dtype)) return visit(static_cast<double>(decodeSmallFloat(dtype, code)));
        bool isSigned = dtype == DType::int4 || dtype == DType::int2;
        return visit(isSigned ? signExtend(code, bitsPerElement(dtype)) : static_cast<std::int64_t>(code));
    }
    visitArithmetic(dtype, [&](auto element) {
        std::memcpy(&element, bytes + static_cast<std::size_t>(i) * sizeof(element), sizeof(element));
        using T = decltype(element);
        if constexpr (std::is_floating_point_v<T>) {
            visit(static_cast<double>(element));
        } else if constexpr (std::is_same_v<T, std::uint64_t>) {
            visit(element);
        } else {
            visit(static_cast<std::int64_t>(element));
        }
    });
}

template <class Wide>
void writeElement(DType dtype, std::byte* bytes, std::int64_t i, Wide value) {
    if (dtype == DType::boolean) {
        bytes[i] = static_cast<std::byte>(value != 0 ? 1 : 0);
        return;
    }
    if (isSmallFloat(dtype)) {
        // An integer above 2^53 has lost bits here, far below what these types can show.
        writeBits(bytes, bitsPerElement(dtype), i,
                  encodeSmallFloat(dtype, roundToOdd(static_cast<double>(value))));
        return;
    }
    if (!isWholeByte(dtype)) {
        int bits = bitsPerElement(dtype);
        bool isSigned = dtype == DType::int4 || dtype == DType::int2;
        auto integer = castElement<std::int64_t>(value);
        if constexpr (std::is_floating_point_v<Wide>) {
            std::int64_t lowest = isSigned ? -(1 << (bits - 1)) : 0;
            integer = std::clamp<std::int64_t>(integer, lowest, lowest + (1 << bits) - 1);
        }
        writeBits(bytes, bits, i, static_cast<std::uint16_t>(integer));
        return;
    }
    visitArithmetic(dtype, [&](auto element) {
        element = castElement<decltype(element)>(value);
        std::memcpy(bytes + static_cast<std::size_t>(i) * sizeof(element), &element, sizeof(element));
    });
}

void checkConvertible(DType dtype) {
    bool arithmetic = visitArithmetic(dtype, [](auto) {});
    if (arithmetic || dtype == DType::boolean || isSmallFloat(dtype) || isInteger(dtype)) return;
    throw ModelError(fmt::format("a tensor of {} has no numbers to convert", name(dtype)));
}

template <class From, class To, class Function>
void mapElements(const Tensor& from, Tensor& to, Function&& function) {
    const From* source = from.data<From>().data();
    To* target = to.mutableData<To>().data();
    parallelRanges(from.size(), grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) target[i] = function(source[i]);
    });
}

/// The frequent pairs; false when there is no direct way.
bool convertDirectly(const Tensor& from, Tensor& to) {
    DType source = from.dtype();
    DType target = to.dtype();
    if (source == DType::float32 && target == DType::float16) {
        mapElements<float, Half>(from, to, [](float value) { return toHalf(value); });
    } else if (source == DType::float32 && target == DType::bfloat16) {
        mapElements<float, BFloat16>(from, to, [](float value) { return toBFloat16(value); });
    } else if (source == DType::float16 && target == DType::float32) {
        mapElements<Half, float>(from, to, [](Half value) { return toFloat(value); });
    } else if (source == DType::bfloat16 && target == DType::float32) {
        mapElements<BFloat16, float>(from, to, [](BFloat16 value) { return toFloat(value); });
    } else {
        return visitArithmetic(source,
                               [&](auto a) {
                                   using From = decltype(a);
                                   visitArithmetic(target, [&](auto b) {
                                       using To = decltype(b);
                                       mapElements<From, To>(
                                           from, to, [](From value) { return castElement<To>(value); });
                                   });
                               }) &&
               visitArithmetic(target, [](auto) {});
    }
    return true;
}

}  // namespace

float toFloat(BFloat16 value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16); }

BFloat16 toBFloat16(float value) {
    std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
    return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16)};
}

float toFloat(Half value) {
    std::uint32_t magnitude = value.bits & 0x7fffu;
    // Placing exponent and mantissa gives value * 2^(15 - 127), also for subnormal numbers; one exact product
    // mends it.
    float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
    std::uint32_t bits = std::bit_cast<std::uint32_t>(scaled);
    if (magnitude >= 0x7c00u) bits = 0x7f800000u | (magnitude & 0x3ffu) << 13;
    return std::bit_cast<float>(bits | static_cast<std::uint32_t>(value.bits & 0x8000u) << 16);
}

Half toHalf(float value) {
    std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    std::uint32_t magnitude = bits & 0x7fffffffu;
    // Adding 0.5 moves the last kept bit of a number below 2^-14 to the last bit of a float: the adder rounds
    // it.
    std::uint32_t subnormal =
        std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    std::uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1)) >> 13;
    std::uint32_t code = magnitude < 0x38800000u ? subnormal : normal;
    if (magnitude >= 0x477ff000u) code = 0x7c00u;  // 65520 and above round to infinity
    if (magnitude > 0x7f800000u) code = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    return {static_cast<std::uint16_t>(code | (bits >> 16 & 0x8000u))};
}

Tensor convert(const Tensor& tensor, DType dtype) {
    if (tensor.dtype() == dtype) return tensor;
    checkConvertible(tensor.dtype());
    checkConvertible(dtype);
    Tensor result(dtype, tensor.shape());
    if (convertDirectly(tensor, result)) return result;

    const std::byte* source = tensor.bytes().data();
    std::byte* target = result.mutableBytes().data();
    parallelRanges(tensor.size(), grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            readElement(tensor.dtype(), source, i,
                        [&](auto value) { writeElement(dtype, target, i, value); });
        }
    });
    return result;
}

std::vector<std::int64_t> toInt64(const Tensor& tensor) {
    Tensor converted = convert(tensor, DType::int64);
    std::span<const std::int64_t> values = converted.data<std::int64_t>();
    return {values.begin(), values.end()};
}

std::vector<float> toFloat32(const Tensor& tensor) {
    Tensor converted = convert(tensor, DType::float32);
    std::span<const float> values = converted.data<float>();
    return {values.begin(), values.end()};
}

}  // namespace tcompress
