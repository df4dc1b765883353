#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "lib/support/error.h"
#include "lib/tensor/bits.h"
#include "lib/tensor/small_float.h"
#include "lib/tensor/tensor.h"

using namespace tcompress;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float notANumber = std::numeric_limits<float>::quiet_NaN();

/// The definition: of all codes that are finite numbers the one nearest to value, of two the even one. Values
/// beyond the largest by half a step or more are left to the caller.
std::uint16_t nearestCode(DType dtype, float value) {
    std::uint32_t codes = 1u << bitsPerElement(dtype);
    std::uint16_t best = 0;
    double bestDistance = std::numeric_limits<double>::infinity();
    for (std::uint32_t code = 0; code < codes; ++code) {
        float candidate = decodeSmallFloat(dtype, static_cast<std::uint16_t>(code));
        if (!std::isfinite(candidate)) continue;
        if (std::signbit(candidate) != std::signbit(value)) continue;
        double distance = std::fabs(static_cast<double>(candidate) - static_cast<double>(value));
        bool isBetter = distance < bestDistance || (distance == bestDistance && code % 2 == 0);
        if (!isBetter) continue;
        bestDistance = distance;
        best = static_cast<std::uint16_t>(code);
    }
    return best;
}

const std::vector<DType> eightBitsAndLess{DType::float8e4m3fn, DType::float8e4m3fnuz, DType::float8e5m2,
                                          DType::float8e5m2fnuz, DType::float4e2m1};

}  // namespace

TEST_CASE("known values of the small floating-point types") {
    CHECK(decodeSmallFloat(DType::float16, 0x3c00) == 1.0f);
    CHECK(decodeSmallFloat(DType::float16, 0x7bff) == 65504.0f);
    CHECK(decodeSmallFloat(DType::float16, 0x0001) == std::ldexp(1.0f, -24));
    CHECK(decodeSmallFloat(DType::bfloat16, 0x3fc0) == 1.5f);
    CHECK(decodeSmallFloat(DType::float8e4m3fn, 0x7e) == 448.0f);
    CHECK(decodeSmallFloat(DType::float8e4m3fnuz, 0x7f) == 240.0f);
    CHECK(decodeSmallFloat(DType::float8e5m2, 0x7b) == 57344.0f);
    CHECK(decodeSmallFloat(DType::float8e5m2fnuz, 0x7f) == 57344.0f);
    CHECK(decodeSmallFloat(DType::float4e2m1, 0x7) == 6.0f);
    CHECK(decodeSmallFloat(DType::float4e2m1, 0x1) == 0.5f);
    CHECK(decodeSmallFloat(DType::float8e8m0, 127) == 1.0f);
    CHECK(std::isnan(decodeSmallFloat(DType::float8e4m3fn, 0x7f)));
    CHECK(std::isnan(decodeSmallFloat(DType::float8e4m3fnuz, 0x80)));
    CHECK(std::isnan(decodeSmallFloat(DType::float8e8m0, 255)));
    CHECK(decodeSmallFloat(DType::float8e5m2, 0x7c) == infinity);
}

TEST_CASE("every code decodes and encodes to itself") {
    std::vector<DType> types = eightBitsAndLess;
    types.insert(types.end(), {DType::float16, DType::bfloat16, DType::float8e8m0});
    for (DType dtype : types) {
        std::uint32_t codes = 1u << bitsPerElement(dtype);
        std::uint32_t different = 0;
        for (std::uint32_t code = 0; code < codes; ++code) {
            float value = decodeSmallFloat(dtype, static_cast<std::uint16_t>(code));
            if (std::isnan(value)) continue;
            bool isInfiniteAndSaturates = std::isinf(value) && bitsPerElement(dtype) < 16;
            if (isInfiniteAndSaturates) continue;
            different += encodeSmallFloat(dtype, value) != code ? 1 : 0;
        }
        CAPTURE(name(dtype));
        CHECK(different == 0);
    }
}

TEST_CASE("encoding takes the nearest code, ties to even") {
    for (DType dtype : eightBitsAndLess) {
        std::uint32_t codes = 1u << bitsPerElement(dtype);
        std::vector<float> probes;
        for (std::uint32_t code = 0; code + 1 < codes / 2; ++code) {
            float low = decodeSmallFloat(dtype, static_cast<std::uint16_t>(code));
            float high = decodeSmallFloat(dtype, static_cast<std::uint16_t>(code + 1));
            if (!std::isfinite(low) || !std::isfinite(high)) continue;
            float middle = (low + high) / 2;
            for (float probe : {middle, std::nextafter(middle, low), std::nextafter(middle, high)}) {
                probes.push_back(probe);
                if (encodeSmallFloat(dtype, probe) != 0) probes.push_back(-probe);
            }
        }
        std::size_t different = 0;
        for (float probe : probes)
            different += encodeSmallFloat(dtype, probe) != nearestCode(dtype, probe) ? 1 : 0;
        CAPTURE(name(dtype), probes.size());
        CHECK(different == 0);
    }
}

TEST_CASE("values out of range saturate in 8 bits and less and become infinite in 16") {
    CHECK(decodeSmallFloat(DType::float8e4m3fn, encodeSmallFloat(DType::float8e4m3fn, 1e9f)) == 448.0f);
    CHECK(decodeSmallFloat(DType::float8e4m3fn, encodeSmallFloat(DType::float8e4m3fn, -infinity)) == -448.0f);
    CHECK(decodeSmallFloat(DType::float8e5m2, encodeSmallFloat(DType::float8e5m2, infinity)) == 57344.0f);
    CHECK(decodeSmallFloat(DType::float4e2m1, encodeSmallFloat(DType::float4e2m1, 100.0f)) == 6.0f);
    CHECK(toHalf(65519.99f).bits == 0x7bff);
    CHECK(toHalf(65520.0f).bits == 0x7c00);
    CHECK(toHalf(-infinity).bits == 0xfc00);
    CHECK(toBFloat16(3.4e38f).bits == 0x7f80);
    for (DType dtype : {DType::float8e4m3fn, DType::float8e4m3fnuz, DType::float8e5m2, DType::float8e5m2fnuz,
                        DType::float16, DType::bfloat16, DType::float8e8m0}) {
        CHECK(std::isnan(decodeSmallFloat(dtype, encodeSmallFloat(dtype, notANumber))));
    }
    // No -0 in the FNUZ types: its code is NaN.
    CHECK(encodeSmallFloat(DType::float8e4m3fnuz, -0.0f) == 0);
    CHECK(encodeSmallFloat(DType::float8e5m2fnuz, -1e-30f) == 0);
    CHECK(encodeSmallFloat(DType::float8e8m0, 3.0f) == 129);
    CHECK(encodeSmallFloat(DType::float8e8m0, 4.0f) == 129);
}

TEST_CASE("the fast conversions of 16-bit types agree with the general ones") {
    std::size_t different = 0;
    for (std::uint32_t code = 0; code < 0x10000; ++code) {
        auto c = static_cast<std::uint16_t>(code);
        float half = decodeSmallFloat(DType::float16, c);
        float brain = decodeSmallFloat(DType::bfloat16, c);
        if (!std::isnan(half))
            different += std::bit_cast<std::uint32_t>(toFloat(Half{c})) != std::bit_cast<std::uint32_t>(half);
        if (std::isnan(half)) different += !std::isnan(toFloat(Half{c}));
        if (!std::isnan(brain)) different += toFloat(BFloat16{c}) != brain;
    }
    CHECK(different == 0);
    // A walk over all exponents with mantissas around the places where rounding changes.
    for (std::uint32_t exponent = 0; exponent < 256; ++exponent) {
        for (std::uint32_t mantissa :
             {0u, 1u, 0xfffu, 0x1000u, 0x1001u, 0x2000u, 0x3000u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu,
              0x18000u, 0x400000u, 0x7fe000u, 0x7fefffu, 0x7ff000u, 0x7fffffu}) {
            for (std::uint32_t sign : {0u, 0x80000000u}) {
                float value = std::bit_cast<float>(sign | exponent << 23 | mantissa);
                if (std::isnan(value)) {
                    different +=
                        !std::isnan(toFloat(toHalf(value))) || !std::isnan(toFloat(toBFloat16(value)));
                    continue;
                }
                different += toHalf(value).bits != encodeSmallFloat(DType::float16, value);
                different += toBFloat16(value).bits != encodeSmallFloat(DType::bfloat16, value);
            }
        }
    }
    CHECK(different == 0);
}

TEST_CASE("double rounding does not happen from float64 and int64") {
    // Just above the middle of two halves, by less than a float32 can show: once rounded to float32 it is a
    // tie.
    double value = 1.0 + std::ldexp(1.0, -11) + std::ldexp(1.0, -40);
    CHECK(convert(Tensor::scalar(value), DType::float16).data<Half>()[0].bits == 0x3c01);
    CHECK(toHalf(static_cast<float>(value)).bits == 0x3c00);
    CHECK(convert(Tensor::scalar(-value), DType::float16).data<Half>()[0].bits == 0xbc01);
    std::int64_t integer = (std::int64_t{1} << 32) + (std::int64_t{1} << 24) + 1;  // above a tie of bfloat16
    CHECK(convert(Tensor::scalar(integer), DType::bfloat16).data<BFloat16>()[0].bits == 0x4f81);
}

TEST_CASE("floating point to integer truncates and saturates") {
    Tensor values =
        Tensor::of<float>({8}, {1.9f, -1.9f, 300.0f, -300.0f, notANumber, infinity, -infinity, 127.5f});
    CHECK(toInt64(convert(values, DType::int8)) ==
          std::vector<std::int64_t>{1, -1, 127, -128, 0, 127, -128, 127});
    CHECK(toInt64(convert(values, DType::uint8)) == std::vector<std::int64_t>{1, 0, 255, 0, 0, 255, 0, 127});
    CHECK(toInt64(convert(values, DType::int4)) == std::vector<std::int64_t>{1, -1, 7, -8, 0, 7, -8, 7});
    CHECK(toInt64(convert(values, DType::uint2)) == std::vector<std::int64_t>{1, 0, 3, 0, 0, 3, 0, 3});
    Tensor large = Tensor::of<double>({3}, {1e300, -1e300, 9.3e18});
    CHECK(toInt64(large) == std::vector<std::int64_t>{INT64_MAX, INT64_MIN, INT64_MAX});
    CHECK(convert(large, DType::uint64).data<std::uint64_t>()[2] == 9300000000000000000u);
}

TEST_CASE("integers keep their low bits, and everything becomes bool by not being zero") {
    Tensor values = Tensor::of<std::int32_t>({4}, {300, -1, 0, 128});
    CHECK(toInt64(convert(values, DType::uint8)) == std::vector<std::int64_t>{44, 255, 0, 128});
    CHECK(toInt64(convert(values, DType::int8)) == std::vector<std::int64_t>{44, -1, 0, -128});
    CHECK(toInt64(convert(values, DType::int4)) == std::vector<std::int64_t>{-4, -1, 0, 0});
    CHECK(toInt64(convert(values, DType::boolean)) == std::vector<std::int64_t>{1, 1, 0, 1});
    CHECK(toInt64(convert(Tensor::of<float>({3}, {0.0f, -0.0f, 0.1f}), DType::boolean)) ==
          std::vector<std::int64_t>{0, 0, 1});
    CHECK(toFloat32(convert(Tensor::of<bool>({2}, {true, false}), DType::float16)) ==
          std::vector<float>{1, 0});
    CHECK(convert(Tensor::scalar(UINT64_MAX), DType::float64).data<double>()[0] == 18446744073709551616.0);
}

TEST_CASE("every pair of numeric types converts small integers exactly") {
    std::vector<DType> types;
    for (std::int32_t i = 1; i <= 26; ++i) {
        auto dtype = static_cast<DType>(i);
        bool isNumber = bitsPerElement(dtype) > 0 && dtype != DType::complex64 && dtype != DType::complex128;
        bool holdsThree = dtype != DType::int2 && dtype != DType::boolean && dtype != DType::float8e8m0;
        if (isNumber && holdsThree) types.push_back(dtype);
    }
    REQUIRE(types.size() == 20);
    for (std::int64_t count : {1, 3, 4, 7, 17}) {
        Tensor values(DType::int64, {count});
        for (std::int64_t i = 0; i < count; ++i)
            values.mutableData<std::int64_t>()[static_cast<std::size_t>(i)] = i % 4;
        std::vector<std::int64_t> expected = toInt64(values);
        for (DType from : types) {
            Tensor source = convert(values, from);
            for (DType to : types) {
                CAPTURE(name(from), name(to), count);
                CHECK(toInt64(convert(source, to)) == expected);
            }
        }
    }
}

TEST_CASE("what has no numbers cannot be converted") {
    CHECK_THROWS_AS(convert(Tensor(DType::complex64, {1}), DType::float32), ModelError);
    CHECK_THROWS_AS(convert(Tensor(DType::float32, {1}), DType::string), ModelError);
    CHECK_THROWS_AS(toInt64(Tensor()), ModelError);
}

TEST_CASE("packed elements lie low bits first") {
    std::byte bytes[2] = {};
    writeBits(bytes, 4, 0, 0x1);
    writeBits(bytes, 4, 1, 0xf);
    writeBits(bytes, 4, 2, 0x3);
    CHECK(bytes[0] == std::byte{0xf1});
    CHECK(bytes[1] == std::byte{0x03});
    CHECK(readBits(bytes, 4, 1) == 0xf);
    CHECK(signExtend(0xf, 4) == -1);
    CHECK(signExtend(0x2, 2) == -2);
    writeBits(bytes, 2, 3, 0x2);
    CHECK(bytes[0] == std::byte{0xb1});
}
