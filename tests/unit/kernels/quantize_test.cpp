#include "kernels/quantize.h"

#include <catch2/catch.hpp>
#include <cfenv>

#include "kernels/gather.h"
#include "lib/support/error.h"
#include "tests/unit/kernels/kernel_test_support.h"

using namespace tcompress;
using namespace tcompress::kernels;
using namespace tcompress::kernels::test;

namespace {

const DType kTypes[] = {DType::int8, DType::uint8, DType::int16, DType::uint16,
                        DType::int4, DType::uint4, DType::int2,  DType::uint2};

/// One element of packed storage, by the definition of the format.
std::int32_t stored(const std::vector<std::uint8_t>& bytes, DType type, std::int64_t index) {
    const int bits = bitsPerElement(type);
    std::int32_t value = 0;
    for (int bit = 0; bit < bits; ++bit) {
        const std::int64_t position = index * bits + bit;
        value |= (bytes[static_cast<std::size_t>(position / 8)] >> (position % 8) & 1) << bit;
    }
    return value > integerRange(type).high ? value - (1 << bits) : value;
}

void store(std::vector<std::uint8_t>& bytes, DType type, std::int64_t index, std::int32_t value) {
    const int bits = bitsPerElement(type);
    for (int bit = 0; bit < bits; ++bit) {
        const std::int64_t position = index * bits + bit;
        const auto mask = static_cast<std::uint8_t>(1 << (position % 8));
        std::uint8_t& byte = bytes[static_cast<std::size_t>(position / 8)];
        byte = static_cast<std::uint8_t>(value >> bit & 1 ? byte | mask : byte & ~mask);
    }
}

std::int64_t scaleIndex(const QuantizationLayout& layout, std::int64_t element) {
    const std::int64_t inner = element % layout.inner;
    const std::int64_t axis = element / layout.inner % layout.axis;
    const std::int64_t outer = element / layout.inner / layout.axis;
    switch (layout.granularity) {
        case Granularity::tensor:
            return 0;
        case Granularity::axis:
            return axis;
        case Granularity::block:
            return (outer * layout.blocks() + axis / layout.block) * layout.inner + inner;
    }
    return 0;
}

std::vector<QuantizationLayout> layouts() {
    return {
        {Granularity::tensor, 1, 1, 1, 0},     {Granularity::tensor, 3, 5, 7, 0},
        {Granularity::axis, 1, 37, 1, 0},      {Granularity::axis, 5, 33, 1, 0},
        {Granularity::axis, 1, 9, 33, 0},      {Granularity::axis, 2, 3, 17, 0},
        {Granularity::block, 3, 64, 1, 32},    {Granularity::block, 3, 70, 1, 32},
        {Granularity::block, 1, 9, 19, 4},     {Granularity::block, 2, 8, 5, 3},
        {Granularity::axis, 70, 1000, 1, 0},   {Granularity::axis, 1, 300, 257, 0},
        {Granularity::block, 40, 2000, 1, 16},
    };
}

}  // namespace

TEST_CASE(
    "quantize and dequantize as ONNX defines them, for every type and layout, on any number of threads") {
    Restore restore;
    for (const DType type : kTypes)
        for (const QuantizationLayout& layout : layouts())
            for (const bool withZeroPoints : {false, true}) {
                const IntegerRange range = integerRange(type);
                const std::int64_t size = layout.size();
                const std::int64_t scaleCount = layout.scaleCount();
                const std::vector<float> x = randomFloats(size, "x", range.high / 3.0);
                std::vector<float> scales = randomFloats(scaleCount, "scales");
                for (float& scale : scales) scale = std::abs(scale) + 0.5F;
                std::vector<std::uint8_t> zeroPoints(packedSizeBytes(type, scaleCount));
                if (withZeroPoints)
                    for (std::int64_t i = 0; i < scaleCount; ++i)
                        store(zeroPoints, type, i,
                              range.low + static_cast<std::int32_t>(i % (range.high - range.low)));
                std::vector<std::uint8_t> y(packedSizeBytes(type, size));
                std::vector<float> back(static_cast<std::size_t>(size));
                std::int64_t wrong = 0;
                for (const int threads : {1, 3}) {
                    setThreadCount(threads);
                    quantizeLinear({layout, x.data(), scales.data(),
                                    withZeroPoints ? zeroPoints.data() : nullptr, type, y.data()});
                    dequantizeLinear({layout, y.data(), type, scales.data(),
                                      withZeroPoints ? zeroPoints.data() : nullptr, back.data()});
                    for (std::int64_t i = 0; i < size; ++i) {
                        const std::int64_t s = scaleIndex(layout, i);
                        const std::int32_t zero = withZeroPoints ? stored(zeroPoints, type, s) : 0;
                        const double rounded = std::nearbyint(x[i] / scales[s]);
                        const auto expected = static_cast<std::int32_t>(
                            std::clamp<double>(rounded + zero, range.low, range.high));
                        if (stored(y, type, i) != expected) ++wrong;
                        if (back[i] != static_cast<float>(expected - zero) * scales[s]) ++wrong;
                    }
                }
                INFO(name(type) << " granularity " << static_cast<int>(layout.granularity) << " ["
                                << layout.outer << ", " << layout.axis << ", " << layout.inner << "] block "
                                << layout.block);
                REQUIRE(wrong == 0);
            }
}

TEST_CASE("rounding is half to even, values saturate, NaN is the zero point") {
    const std::vector<float> x = {0.5F,   1.5F,   2.5F,  -0.5F,  -1.5F, -2.5F,    126.5F,    127.5F,
                                  200.0F, -300.F, 1e30F, -1e30F, NAN,   INFINITY, -INFINITY, 0.49999997F};
    const float scale = 1.0F;
    std::vector<std::int8_t> y(x.size());
    quantizeLinear({{Granularity::tensor, 1, static_cast<std::int64_t>(x.size()), 1, 0},
                    x.data(),
                    &scale,
                    nullptr,
                    DType::int8,
                    y.data()});
    CHECK(y == std::vector<std::int8_t>{0, 2, 2, 0, -2, -2, 126, 127, 127, -128, 127, -128, 0, 127, -128, 0});
}

TEST_CASE("int32 biases dequantize; other types are refused by name") {
    const std::vector<std::int32_t> x = {1 << 20, -5};
    const float scale = 0.5F;
    std::vector<float> y(2);
    dequantizeLinear({{Granularity::tensor, 1, 2, 1, 0}, x.data(), DType::int32, &scale, nullptr, y.data()});
    CHECK(y == std::vector<float>{524288.0F, -2.5F});
    CHECK_THROWS_AS(integerRange(DType::float32), KernelError);
}

TEST_CASE("sub-byte values survive packing, whatever the count") {
    for (const DType type : {DType::int4, DType::uint4, DType::int2, DType::uint2})
        for (const std::int64_t count : {1, 2, 3, 5, 8, 63, 64, 65}) {
            const IntegerRange range = integerRange(type);
            std::vector<std::int8_t> values;
            for (std::int64_t i = 0; i < count; ++i)
                values.push_back(static_cast<std::int8_t>(range.low + i % (range.high - range.low + 1)));
            std::vector<std::byte> packed(packedSizeBytes(type, count), std::byte{0xff});
            packSubByte(type, values, packed);
            std::vector<std::int8_t> back(values.size());
            unpackSubByte(type, packed, back);
            REQUIRE(back == values);
        }
}

TEST_CASE("dynamic quantization follows ONNX DynamicQuantizeLinear") {
    // The examples of the operator's specification.
    const auto run = [](const std::vector<float>& x) {
        std::vector<std::uint8_t> y(x.size());
        const UInt8Parameters p = dynamicQuantizeLinear(x, y);
        return std::pair(p, y);
    };
    const auto [p, y] = run({0, 2, -3, -2.5F, 1.34F, 0.5F});
    CHECK(p.scale == Approx(0.0196078438F));
    CHECK(p.zeroPoint == 153);
    CHECK(y == std::vector<std::uint8_t>{153, 255, 0, 26, 221, 179});
    const auto [p2, y2] = run({-1.0F, -2.1F, -1.3F, -2.5F, -3.34F, -4.0F});
    CHECK(p2.scale == Approx(0.0156862754F));
    CHECK(p2.zeroPoint == 255);
    CHECK(y2 == std::vector<std::uint8_t>{191, 121, 172, 96, 42, 0});
    const auto [p3, y3] = run({1, 2.1F, 1.3F, 2.5F, 3.34F, 4.0F, 1.5F, 2.6F, 3.9F, 4.0F, 3.0F, 2.345F});
    CHECK(p3.scale == Approx(0.0156862754F));
    CHECK(p3.zeroPoint == 0);
    CHECK(y3 == std::vector<std::uint8_t>{64, 134, 83, 159, 213, 255, 96, 166, 249, 255, 191, 149});
    const auto [p4, y4] = run({0, 0});
    CHECK(p4.scale == 1.0F);
    CHECK(y4 == std::vector<std::uint8_t>{0, 0});

    // Rows with something between them.
    const std::vector<float> padded = paddedMatrix(5, 7, 9, "padded");
    std::vector<float> dense;
    for (std::size_t row = 0; row < 5; ++row)
        dense.insert(dense.end(), padded.begin() + row * 9, padded.begin() + row * 9 + 7);
    std::vector<std::uint8_t> strided(35);
    const UInt8Parameters p5 = dynamicQuantizeLinear(padded.data(), 5, 7, 9, strided.data());
    CHECK(p5.scale == run(dense).first.scale);
    CHECK(strided == run(dense).second);
}

TEST_CASE("ranges of groups, NaN skipped") {
    Restore restore;
    for (const QuantizationLayout& layout : layouts()) {
        std::vector<float> x = randomFloats(layout.size(), "x");
        for (std::size_t i = 0; i < x.size(); i += 5) x[i] = NAN;
        const auto count = static_cast<std::size_t>(layout.scaleCount());
        std::vector<float> expectedMin(count, INFINITY);
        std::vector<float> expectedMax(count, -INFINITY);
        for (std::int64_t i = 0; i < layout.size(); ++i) {
            if (std::isnan(x[i])) continue;
            const std::int64_t s = scaleIndex(layout, i);
            expectedMin[s] = std::min(expectedMin[s], x[i]);
            expectedMax[s] = std::max(expectedMax[s], x[i]);
        }
        for (std::size_t i = 0; i < count; ++i)
            if (expectedMin[i] > expectedMax[i]) expectedMin[i] = expectedMax[i] = 0;
        for (const int threads : {1, 3}) {
            setThreadCount(threads);
            std::vector<float> mins(count);
            std::vector<float> maxs(count);
            groupMinMax(layout, x, mins, maxs);
            REQUIRE(mins == expectedMin);
            REQUIRE(maxs == expectedMax);
            groupAbsMax(layout, x, maxs);
            for (std::size_t i = 0; i < count; ++i)
                REQUIRE(maxs[i] == std::max(std::abs(expectedMin[i]), std::abs(expectedMax[i])));
        }
    }
    CHECK(minMax({}).min == 0.0F);
    const std::vector<float> edges = {NAN, -INFINITY, 3.0F};
    CHECK(minMax(edges).min == -INFINITY);
    CHECK(minMax(edges).max == 3.0F);
}

TEST_CASE("fake quantization is quantize, then dequantize") {
    const QuantizationLayout layout{Granularity::axis, 5, 33, 1, 0};
    const std::vector<float> x = randomFloats(layout.size(), "x", 40);
    std::vector<float> scales(33, 0.7F);
    const std::vector<std::int32_t> zeros(33, 3);
    const std::vector<std::uint8_t> storedZeros(33, 3);
    std::vector<float> fake(x.size());
    fakeQuantize(layout, x, scales, zeros, {0, 255}, fake);
    std::vector<std::uint8_t> q(x.size());
    std::vector<float> real(x.size());
    quantizeLinear({layout, x.data(), scales.data(), storedZeros.data(), DType::uint8, q.data()});
    dequantizeLinear({layout, q.data(), DType::uint8, scales.data(), storedZeros.data(), real.data()});
    CHECK(fake == real);
}

TEST_CASE("rows gathered from a quantized table are those of the dequantized table") {
    for (const DType type : {DType::int8, DType::uint8, DType::int4, DType::uint4}) {
        const std::int64_t rows = 9, columns = 6;
        const QuantizationLayout layout{Granularity::axis, 1, rows, columns, 0};
        const std::vector<float> x = randomFloats(rows * columns, "x", 3);
        std::vector<float> scales(rows);
        for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = 0.1F * static_cast<float>(i + 1);
        std::vector<std::uint8_t> zeros(packedSizeBytes(type, rows));
        for (std::int64_t i = 0; i < rows; ++i) store(zeros, type, i, static_cast<std::int32_t>(i % 7));
        std::vector<std::uint8_t> q(packedSizeBytes(type, rows * columns));
        quantizeLinear({layout, x.data(), scales.data(), zeros.data(), type, q.data()});
        std::vector<float> table(x.size());
        dequantizeLinear({layout, q.data(), type, scales.data(), zeros.data(), table.data()});
        const std::vector<std::int64_t> indices = {8, 0, -1, 3, 3, -9};
        std::vector<float> y(indices.size() * columns);
        gather(GatherDequantize{q.data(), type, rows, columns, scales, zeros.data(), indices, y.data()});
        for (std::size_t i = 0; i < indices.size(); ++i)
            for (std::int64_t c = 0; c < columns; ++c) {
                const std::int64_t row = indices[i] < 0 ? indices[i] + rows : indices[i];
                REQUIRE(y[i * columns + c] == table[row * columns + c]);
            }
    }
}
