#pragma once
// Element types. The numbers are those of onnx::TensorProto::DataType, so a conversion is a cast.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tcompress {

enum class DType : std::int32_t {
    undefined = 0,
    float32 = 1,
    uint8 = 2,
    int8 = 3,
    uint16 = 4,
    int16 = 5,
    int32 = 6,
    int64 = 7,
    string = 8,
    boolean = 9,
    float16 = 10,
    float64 = 11,
    uint32 = 12,
    uint64 = 13,
    complex64 = 14,
    complex128 = 15,
    bfloat16 = 16,
    float8e4m3fn = 17,
    float8e4m3fnuz = 18,
    float8e5m2 = 19,
    float8e5m2fnuz = 20,
    uint4 = 21,
    int4 = 22,
    float4e2m1 = 23,
    float8e8m0 = 24,
    uint2 = 25,
    int2 = 26,
};

/// Bits of one element in storage; 0 for string and undefined.
int bitsPerElement(DType type);
/// Bytes of `count` packed elements (two 4-bit elements share a byte, low nibble first; the last byte is
/// padded).
std::size_t packedSizeBytes(DType type, std::int64_t count);
/// ONNX's lower-case name: "float32", "int4", "bool" …
std::string_view name(DType type);
bool isFloatingPoint(DType type);
bool isInteger(DType type);

/// The DType of a C++ type (float, double, std::int8_t … bool). float16 and bfloat16 are stored as Half and
/// BFloat16.
struct Half {
    std::uint16_t bits;
};
struct BFloat16 {
    std::uint16_t bits;
};
template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
    static constexpr DType value = DType::float32;
};
template <>
struct DTypeOf<double> {
    static constexpr DType value = DType::float64;
};
template <>
struct DTypeOf<std::int8_t> {
    static constexpr DType value = DType::int8;
};
template <>
struct DTypeOf<std::uint8_t> {
    static constexpr DType value = DType::uint8;
};
template <>
struct DTypeOf<std::int16_t> {
    static constexpr DType value = DType::int16;
};
template <>
struct DTypeOf<std::uint16_t> {
    static constexpr DType value = DType::uint16;
};
template <>
struct DTypeOf<std::int32_t> {
    static constexpr DType value = DType::int32;
};
template <>
struct DTypeOf<std::uint32_t> {
    static constexpr DType value = DType::uint32;
};
template <>
struct DTypeOf<std::int64_t> {
    static constexpr DType value = DType::int64;
};
template <>
struct DTypeOf<std::uint64_t> {
    static constexpr DType value = DType::uint64;
};
template <>
struct DTypeOf<bool> {
    static constexpr DType value = DType::boolean;
};
template <>
struct DTypeOf<Half> {
    static constexpr DType value = DType::float16;
};
template <>
struct DTypeOf<BFloat16> {
    static constexpr DType value = DType::bfloat16;
};

}  // namespace tcompress
