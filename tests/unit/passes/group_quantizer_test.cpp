// The rounding of weights against its definition, written out slowly.

#include "passes/quantize/grid/group_quantizer.h"

#include <catch2/catch.hpp>
#include <cfloat>
#include <cmath>
#include <limits>

#include "lib/support/mapped_file.h"
#include "lib/support/parallel.h"
#include "passes/quantize/grid/range_search.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;

namespace {

QuantizationRule ruleOf(int bits, Symmetry symmetry, RangeChoice range = RangeChoice::minmax,
                        DType scaleType = DType::float32) {
    QuantizationRule rule;
    rule.bits = bits;
    rule.symmetry = symmetry;
    rule.range = range;
    rule.scaleType = scaleType;
    return rule;
}

struct Definition {
    float scale;
    int zeroPoint;
    std::vector<int> codes;
};

/// One group by the formulas of the header, float32 scales, whole range.
Definition define(const std::vector<float>& group, const QuantizationRule& rule) {
    float low = 0, high = 0;
    for (float value : group) {
        low = std::min(low, value);
        high = std::max(high, value);
    }
    const int codes = 1 << rule.bits;
    Definition result{1, 0, {}};
    int first = 0, last = codes - 1;
    if (rule.symmetry == Symmetry::asymmetric) {
        result.scale = high / static_cast<float>(codes - 1) - low / static_cast<float>(codes - 1);
        result.zeroPoint = static_cast<int>(std::nearbyint(-low / result.scale));
    } else if (rule.symmetry == Symmetry::balanced) {
        last = codes / 2 - 1;
        first = -last;
        result.scale = std::max(high, -low) / static_cast<float>(last);
    } else {
        last = codes / 2 - 1;
        first = -codes / 2;
        result.scale = (high > -low ? -high : -low) / static_cast<float>(codes / 2);
    }
    for (float value : group) {
        const int code = static_cast<int>(std::nearbyint(value / result.scale)) + result.zeroPoint;
        result.codes.push_back(std::clamp(code, first, last));
    }
    return result;
}

int codeOf(const QuantizedWeights& weights, std::size_t i) {
    return weights.zeroPoints.empty() ? static_cast<std::int8_t>(weights.codes[i]) : weights.codes[i];
}

double squaredError(const std::vector<float>& a, std::span<const float> b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - b[i], 2);
    return sum;
}

}  // namespace

TEST_CASE("Codes, scales and zero points are those of the definition") {
    const int bits = GENERATE(8, 4, 3, 2);
    const Symmetry symmetry = GENERATE(Symmetry::balanced, Symmetry::fullRange, Symmetry::asymmetric);
    const Shape shape = GENERATE(Shape{1, 1}, Shape{3, 7}, Shape{16, 17}, Shape{33, 5}, Shape{64, 48});
    const std::size_t axis = GENERATE(0, 1);
    const std::int64_t block = GENERATE(1, 5, 16, 1000);
    const Tensor weights = test::randomTensor(shape, 11);
    const auto layout = groupedLayout(shape, axis, std::min(block, shape[axis]));
    const auto rule = ruleOf(bits, symmetry);
    const auto quantized = quantizeWeights(weights.data<float>(), layout, rule);
    REQUIRE(quantized);
    const std::int64_t columns = shape[1];
    for (std::int64_t group = 0; group < layout.outer * layout.blocks() * layout.inner; ++group) {
        const std::int64_t inner = group % layout.inner;
        const std::int64_t first = group / layout.inner % layout.blocks() * layout.block;
        const std::int64_t outer = group / layout.inner / layout.blocks();
        std::vector<std::size_t> positions;
        std::vector<float> values;
        for (std::int64_t i = first; i < std::min(first + layout.block, layout.axis); ++i) {
            positions.push_back(
                static_cast<std::size_t>(axis == 0 ? i * columns + inner : outer * columns + i));
            values.push_back(weights.data<float>()[positions.back()]);
        }
        const Definition expected = define(values, rule);
        REQUIRE(quantized->scales[static_cast<std::size_t>(group)] == expected.scale);
        if (symmetry == Symmetry::asymmetric)
            REQUIRE(quantized->zeroPoints[static_cast<std::size_t>(group)] == expected.zeroPoint);
        for (std::size_t i = 0; i < positions.size(); ++i)
            REQUIRE(codeOf(*quantized, positions[i]) == expected.codes[i]);
    }
}

TEST_CASE(
    "Columns longer or wider than a task takes have the codes of the definition, from memory and from a "
    "file") {
    // Blocks that a task holds, of several tasks side by side; and columns of which a task holds a part.
    const Shape shape = GENERATE(Shape{90, 4700}, Shape{9001, 37});
    const std::int64_t block = shape[0] == 90 ? 32 : shape[0];
    const Symmetry symmetry = GENERATE(Symmetry::fullRange, Symmetry::asymmetric);
    const Tensor weights = test::randomTensor(shape, 41);
    const auto layout = groupedLayout(shape, 0, block);
    const auto rule = ruleOf(4, symmetry);
    const auto quantized = quantizeWeights(weights.data<float>(), layout, rule);
    REQUIRE(quantized);
    const std::int64_t columns = shape[1];
    for (std::int64_t column = 0; column < columns; column += columns == 37 ? 9 : 239)
        for (std::int64_t first = 0; first < shape[0]; first += block) {
            std::vector<float> values;
            for (std::int64_t i = first; i < std::min(first + block, shape[0]); ++i)
                values.push_back(weights.data<float>()[static_cast<std::size_t>(i * columns + column)]);
            const Definition expected = define(values, rule);
            REQUIRE(quantized->scales[static_cast<std::size_t>(first / block * columns + column)] ==
                    expected.scale);
            for (std::size_t i = 0; i < values.size(); ++i)
                REQUIRE(codeOf(*quantized,
                               (static_cast<std::size_t>(first) + i) * static_cast<std::size_t>(columns) +
                                   static_cast<std::size_t>(column)) == expected.codes[i]);
        }
    const auto file = MappedFile::spill(weights.bytes());
    REQUIRE(file);
    const std::span<const float> stored(reinterpret_cast<const float*>(file->bytes().data()),
                                        static_cast<std::size_t>(weights.size()));
    setThreadCount(3);
    const auto fromFile = quantizeWeights(stored, layout, rule);
    setThreadCount(0);
    REQUIRE(fromFile);
    CHECK(fromFile->codes == quantized->codes);
    CHECK(fromFile->scales == quantized->scales);
    CHECK(fromFile->zeroPoints == quantized->zeroPoints);
    CHECK(fromFile->relativeError == quantized->relativeError);
}

TEST_CASE("A scale is stored as the least float16 that covers it") {
    const auto check = [](float scale) {
        Half half = toHalf(scale);
        if (std::fabs(toFloat(half)) < std::fabs(scale)) ++half.bits;
        REQUIRE(storedScale(scale, DType::float16) == toFloat(half));
    };
    // All exponents, with bits around those that float16 lacks.
    for (std::uint32_t exponent = 0; exponent < 255; ++exponent)
        for (const std::uint32_t fraction :
             {0U, 1U, 0xfffU, 0x1000U, 0x1001U, 0x1fffU, 0x2000U, 0x3000U, 0x7ff000U, 0x7fffffU})
            for (const std::uint32_t sign : {0U, 0x80000000U})
                check(std::bit_cast<float>(sign | exponent << 23 | fraction));
    check(std::numeric_limits<float>::infinity());
    CHECK(std::isnan(storedScale(std::numeric_limits<float>::quiet_NaN(), DType::float16)));
    CHECK(storedScale(0.3F, DType::float32) == 0.3F);
}

TEST_CASE("Dequantized weights are within half a step") {
    const int bits = GENERATE(8, 4);
    const Symmetry symmetry = GENERATE(Symmetry::balanced, Symmetry::asymmetric);
    const DType scaleType = GENERATE(DType::float32, DType::float16);
    const Shape shape{40, 70};
    const Tensor weights = test::randomTensor(shape, 3);
    const auto quantized = quantizeWeights(weights.data<float>(), groupedLayout(shape, 1, 32),
                                           ruleOf(bits, symmetry, RangeChoice::minmax, scaleType));
    REQUIRE(quantized);
    const std::vector<float> after = dequantizeWeights(*quantized);
    for (std::size_t i = 0; i < after.size(); ++i) {
        const float scale = quantized->scales[i / 70 * 3 + i % 70 / 32];
        CHECK(std::fabs(after[i] - weights.data<float>()[i]) <= 0.5F * std::fabs(scale) * 1.0001F);
    }
}

TEST_CASE("Float16 scales are exact in float16, and float32 where float16 is too coarse") {
    const Shape shape{8, 64};
    const auto rule = ruleOf(8, Symmetry::asymmetric, RangeChoice::minmax, DType::float16);
    const Tensor weights = test::randomTensor(shape, 5);
    const auto quantized = quantizeWeights(weights.data<float>(), groupedLayout(shape, 1, 64), rule);
    REQUIRE(quantized);
    CHECK(quantized->rule.scaleType == DType::float16);
    for (float scale : quantized->scales) CHECK(toFloat(toHalf(scale)) == scale);

    const double size = GENERATE(1e-6, 1e9);
    const Tensor extreme = test::randomTensor(shape, 5, size);
    const auto wide = quantizeWeights(extreme.data<float>(), groupedLayout(shape, 1, 64), rule);
    REQUIRE(wide);
    CHECK(wide->rule.scaleType == DType::float32);
    CHECK(wide->relativeError < 0.01);
}

TEST_CASE("The mse choice is never worse than the whole range and better at 4 bits") {
    const int bits = GENERATE(8, 4, 3, 2);
    const Symmetry symmetry = GENERATE(Symmetry::balanced, Symmetry::fullRange, Symmetry::asymmetric);
    const Shape shape{64, 96};
    const Tensor weights = test::randomTensor(shape, 17);
    const auto layout = groupedLayout(shape, 0, 32);
    const auto whole = quantizeWeights(weights.data<float>(), layout, ruleOf(bits, symmetry));
    const auto cut = quantizeWeights(weights.data<float>(), layout, ruleOf(bits, symmetry, RangeChoice::mse));
    REQUIRE((whole && cut));
    const double before = squaredError(dequantizeWeights(*whole), weights.data<float>());
    const double after = squaredError(dequantizeWeights(*cut), weights.data<float>());
    CHECK(after <= before * 1.0001);
    if (bits <= 4) CHECK(after < before * 0.99);
}

TEST_CASE("The cut that is found is the first with the least error of all that there are") {
    const int bits = GENERATE(8, 4, 2);
    const Symmetry symmetry = GENERATE(Symmetry::balanced, Symmetry::fullRange, Symmetry::asymmetric);
    const auto rule = ruleOf(bits, symmetry, RangeChoice::mse);
    std::vector<Shares> cuts{{1, 1}};
    if (symmetry == Symmetry::asymmetric) {
        for (int low = 0; low < 8; ++low)
            for (int high = 0; high < 8; ++high)
                if (low + high > 0)
                    cuts.push_back({1 - 0.05F * static_cast<float>(low), 1 - 0.05F * static_cast<float>(high)});
    } else {
        const float top = symmetry == Symmetry::balanced ? 1.0F : 1.2F;
        for (int step = 0; step < 31; ++step) {
            const float share = 0.5F + (top - 0.5F) * static_cast<float>(step) / 31;
            cuts.push_back({share, share});
        }
    }
    const RangeSearch search(rule);
    for (const std::int64_t n : {1, 3, 16, 37}) {
        const Tensor weights = test::randomTensor({20, n}, 31), counts = test::randomTensor({n}, 32);
        std::vector<float> importance(counts.data<float>().begin(), counts.data<float>().end());
        for (float& value : importance) value *= value;
        for (std::int64_t row = 0; row < 20; ++row) {
            const float* x = weights.data<float>().data() + row * n;
            const Extent extent = extentOf(x, n);
            Shares best;
            double least = HUGE_VAL;
            for (const Shares& cut : cuts) {
                const Grid grid = gridFor(extent, rule, cut);
                float error = 0;
                for (std::int64_t i = 0; i < n; ++i) {
                    const float inverse = 1.0F / grid.scale;
                    const float q = roundHalfEven(clamped(x[i] * inverse, grid.low, grid.high));
                    error += (q * grid.scale - x[i]) * (q * grid.scale - x[i]) * importance[static_cast<std::size_t>(i)];
                }
                if (error >= least) continue;
                least = error;
                best = cut;
            }
            const Shares found = search.best(x, importance.data(), n, extent);
            CHECK(found.low == best.low);
            CHECK(found.high == best.high);
        }
    }
}

TEST_CASE("The relative error is that of the dequantized weights") {
    const Shape shape{31, 50};
    const Tensor weights = test::randomTensor(shape, 23);
    const auto quantized =
        quantizeWeights(weights.data<float>(), groupedLayout(shape, 1, 16), ruleOf(4, Symmetry::asymmetric));
    REQUIRE(quantized);
    const std::vector<float> none(weights.data<float>().size(), 0.0F);
    const double expected = std::sqrt(squaredError(dequantizeWeights(*quantized), weights.data<float>()) /
                                      squaredError(none, weights.data<float>()));
    CHECK(quantized->relativeError == Approx(expected).epsilon(1e-4));
}

TEST_CASE("A group of zeros has scale 1 and codes 0") {
    const Symmetry symmetry = GENERATE(Symmetry::balanced, Symmetry::fullRange, Symmetry::asymmetric);
    const RangeChoice range = GENERATE(RangeChoice::minmax, RangeChoice::mse);
    const float value = GENERATE(0.0F, 1e-40F);
    const std::vector<float> weights(37, value);
    const auto quantized =
        quantizeWeights(weights, groupedLayout({1, 37}, 1, 37), ruleOf(8, symmetry, range));
    REQUIRE(quantized);
    CHECK(quantized->scales == std::vector<float>{1.0F});
    for (float after : dequantizeWeights(*quantized)) CHECK(after == 0.0F);
}

TEST_CASE("NaN and infinity anywhere are refused") {
    const float bad =
        GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                 -std::numeric_limits<float>::infinity());
    const std::size_t position = GENERATE(0, 15, 16, 36);
    std::vector<float> weights(37, 0.5F);
    weights[position] = bad;
    CHECK_FALSE(quantizeWeights(weights, groupedLayout({1, 37}, 1, 37), ruleOf(8, Symmetry::balanced)));
    CHECK_FALSE(quantizeWeights(weights, groupedLayout({37, 1}, 1, 1), ruleOf(8, Symmetry::asymmetric)));
    std::vector<float> wide(37 * 37, 0.5F);  // in groups down columns, of which a task holds all or a part
    wide[position * 37 + position] = bad;
    CHECK_FALSE(quantizeWeights(wide, groupedLayout({37, 37}, 0, 32), ruleOf(8, Symmetry::asymmetric)));
    std::vector<float> tall(20'000 * 2, 0.5F);
    tall[30'000 + position] = bad;
    CHECK_FALSE(quantizeWeights(tall, groupedLayout({20'000, 2}, 0, 20'000), ruleOf(8, Symmetry::balanced)));
    weights[position] = FLT_MAX;
    CHECK(quantizeWeights(weights, groupedLayout({1, 37}, 1, 37), ruleOf(8, Symmetry::asymmetric)));
}

TEST_CASE("The number of threads changes no byte") {
    const Shape shape{300, 257};
    const Tensor weights = test::randomTensor(shape, 29);
    const std::size_t axis = GENERATE(0, 1);
    const auto run = [&](int threads) {
        setThreadCount(threads);
        auto result = quantizeWeights(weights.data<float>(), groupedLayout(shape, axis, 32),
                                      ruleOf(4, Symmetry::asymmetric, RangeChoice::mse, DType::float16));
        setThreadCount(0);
        REQUIRE(result);
        return *result;
    };
    const QuantizedWeights one = run(1), four = run(4);
    CHECK(one.codes == four.codes);
    CHECK(one.scales == four.scales);
    CHECK(one.zeroPoints == four.zeroPoints);
    CHECK(one.relativeError == four.relativeError);
}
