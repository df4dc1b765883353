#include "lib/tensor/dtype.h"

#include <array>

namespace tcompress {
namespace {

enum class Family : std::uint8_t { other, floating, integer };

struct Traits {
    std::string_view name;
    int bits;
    Family family;
};

// Indexed by the number of the type.
constexpr std::array<Traits, 27> traits{{
    {"undefined", 0, Family::other},
    {"float32", 32, Family::floating},
    {"uint8", 8, Family::integer},
    {"int8", 8, Family::integer},
    {"uint16", 16, Family::integer},
    {"int16", 16, Family::integer},
    {"int32", 32, Family::integer},
    {"int64", 64, Family::integer},
    {"string", 0, Family::other},
    {"bool", 8, Family::other},
    {"float16", 16, Family::floating},
    {"float64", 64, Family::floating},
    {"uint32", 32, Family::integer},
    {"uint64", 64, Family::integer},
    {"complex64", 64, Family::other},
    {"complex128", 128, Family::other},
    {"bfloat16", 16, Family::floating},
    {"float8e4m3fn", 8, Family::floating},
    {"float8e4m3fnuz", 8, Family::floating},
    {"float8e5m2", 8, Family::floating},
    {"float8e5m2fnuz", 8, Family::floating},
    {"uint4", 4, Family::integer},
    {"int4", 4, Family::integer},
    {"float4e2m1", 4, Family::floating},
    {"float8e8m0", 8, Family::floating},
    {"uint2", 2, Family::integer},
    {"int2", 2, Family::integer},
}};

constexpr Traits unknown{"unknown", 0, Family::other};

/// Also for numbers that a file made up.
const Traits& of(DType type) {
    auto index = static_cast<std::size_t>(static_cast<std::int32_t>(type));
    return index < traits.size() ? traits[index] : unknown;
}

}  // namespace

int bitsPerElement(DType type) { return of(type).bits; }

std::size_t packedSizeBytes(DType type, std::int64_t count) {
    auto bits = static_cast<std::size_t>(bitsPerElement(type));
    auto elements = static_cast<std::size_t>(count);
    return bits >= 8 ? elements * (bits / 8) : (elements * bits + 7) / 8;
}

std::string_view name(DType type) { return of(type).name; }

bool isFloatingPoint(DType type) { return of(type).family == Family::floating; }

bool isInteger(DType type) { return of(type).family == Family::integer; }

}  // namespace tcompress
