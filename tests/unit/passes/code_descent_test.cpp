// Coordinate descent on codes and scales against its definition: the error falls, and at the end no single code
// and no scale can be moved for less.

#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/gram.h"
#include "lib/support/parallel.h"
#include "lib/support/random.h"
#include "passes/quantize/solver/output_error.h"
#include "passes/quantize/solver/code_descent.h"
#include "tests/unit/passes/gptq_of_moment.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;

namespace {

/// Second moments of channels that go together.
std::vector<double> correlatedMoment(std::int64_t n) {
    Random random(3, "activations");
    std::vector<double> gram(static_cast<std::size_t>(n * n), 0.0);
    std::vector<float> row(static_cast<std::size_t>(n));
    for (std::int64_t r = 0; r < 4 * n; ++r) {
        const double common = random.normal();
        for (float& value : row) value = static_cast<float>(common + random.normal());
        kernels::accumulateGram(row, 1, n, gram);
    }
    return gram;
}

double lost(const QuantizedWeights& quantized, std::span<const float> weights, std::span<const double> moment) {
    std::vector<float> error = dequantizeWeights(quantized);
    for (std::size_t i = 0; i < error.size(); ++i) error[i] -= weights[i];
    return outputEnergy(error, quantized.layout, moment);
}

struct Case {
    Shape shape;
    std::size_t axis;
    std::int64_t block;
    int bits;
    Symmetry symmetry;
    DType scaleType;
};

}  // namespace

TEST_CASE("Descent ends where no code and no scale can be moved for less") {
    const Case c = GENERATE(values<Case>({{{48, 33}, 0, 16, 3, Symmetry::asymmetric, DType::float32},
                                          {{35, 48}, 1, 48, 2, Symmetry::fullRange, DType::float32},
                                          {{40, 24}, 0, 20, 1, Symmetry::asymmetric, DType::float32},
                                          {{150, 7}, 0, 32, 4, Symmetry::asymmetric, DType::float32}}));
    const Tensor tensor = test::randomTensor(c.shape, 8);
    const auto weights = tensor.data<float>();
    const auto layout = groupedLayout(c.shape, c.axis, c.block);
    QuantizationRule rule;
    rule.bits = c.bits;
    rule.symmetry = c.symmetry;
    rule.range = RangeChoice::mse;
    rule.scaleType = c.scaleType;
    const std::vector<double> moment = correlatedMoment(layout.axis);
    auto quantized = test::gptqOf(weights, layout, rule, moment, {1e-6});
    REQUIRE(quantized);
    const double before = lost(*quantized, weights, moment);
    descend(*quantized, weights, moment, {200, 0});
    const double after = lost(*quantized, weights, moment);
    CHECK(after < 0.99 * before);

    const CodeRange range = codeRange(rule);
    const double slack = 1e-4 * after;
    for (std::size_t i = 0; i < weights.size(); i += 5)
        for (const int step : {-1, 1}) {
            QuantizedWeights moved = *quantized;
            const int code = rule.symmetry == Symmetry::asymmetric
                                 ? moved.codes[i]
                                 : static_cast<std::int8_t>(moved.codes[i]);
            if (code + step < range.low || code + step > range.high) continue;
            moved.codes[i] = static_cast<std::uint8_t>(code + step);
            CHECK(lost(moved, weights, moment) >= after - slack);
        }
    for (std::size_t group = 0; group < quantized->scales.size(); group += 3)
        for (const float factor : {0.98F, 1.02F}) {
            QuantizedWeights moved = *quantized;
            moved.scales[group] *= factor;
            CHECK(lost(moved, weights, moment) >= after - slack);
        }
}

TEST_CASE("Descent: scales stay what float16 can hold, any number of threads writes the same bytes") {
    const Shape shape{96, 130};
    const Tensor tensor = test::randomTensor(shape, 9);
    const auto weights = tensor.data<float>();
    const auto layout = groupedLayout(shape, 0, 32);
    QuantizationRule rule;
    rule.bits = 3;
    rule.symmetry = Symmetry::asymmetric;
    rule.scaleType = DType::float16;
    const std::vector<double> moment = correlatedMoment(96);
    const auto run = [&](int threads) {
        setThreadCount(threads);
        auto result = test::gptqOf(weights, layout, rule, moment, {});
        REQUIRE(result);
        const double before = lost(*result, weights, moment);
        descend(*result, weights, moment, {3, 0.01});
        CHECK(lost(*result, weights, moment) < before);
        setThreadCount(0);
        return *result;
    };
    const QuantizedWeights one = run(1), four = run(4);
    CHECK(one.codes == four.codes);
    CHECK(one.scales == four.scales);
    for (const float scale : one.scales) CHECK(toFloat(toHalf(scale)) == scale);
}

TEST_CASE("Descent: no scale falls out of what its type holds") {
    // Codes of other weights than those to come near to, which are next to nothing: the best scale is 0.
    const DType scaleType = GENERATE(DType::float16, DType::float32);
    const std::int64_t block = GENERATE(16, 192);
    const Shape shape{192, 9};
    const auto layout = groupedLayout(shape, 0, block);
    QuantizationRule rule;
    rule.bits = 4;
    rule.scaleType = scaleType;
    const Tensor tensor = test::randomTensor(shape, 11);
    auto quantized = quantizeWeights(tensor.data<float>(), layout, rule);
    REQUIRE(quantized);
    const std::vector<float> nothing(static_cast<std::size_t>(layout.size()), 0.0F);
    descend(*quantized, nothing, correlatedMoment(192), {4, 0.01});
    for (const float scale : quantized->scales) CHECK(std::fabs(scale) >= smallestScale(scaleType));
    for (const float value : dequantizeWeights(*quantized)) CHECK(std::isfinite(value));
    const CodeRange range = codeRange(rule);
    for (const std::uint8_t code : quantized->codes) CHECK(std::abs(static_cast<std::int8_t>(code)) <= range.high);
}

TEST_CASE("Descent without activations leaves nothing worse") {
    const Shape shape{32, 20};
    const Tensor tensor = test::randomTensor(shape, 10);
    const auto layout = groupedLayout(shape, 0, 32);
    QuantizationRule rule;
    rule.bits = 4;
    auto quantized = quantizeWeights(tensor.data<float>(), layout, rule);
    REQUIRE(quantized);
    const double before = quantized->relativeError;
    descend(*quantized, tensor.data<float>(), std::vector<double>(32 * 32, 0.0), {4, 0.01});
    CHECK(quantized->relativeError <= before);
}
