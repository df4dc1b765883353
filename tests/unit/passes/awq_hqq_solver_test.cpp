// AWQ and HQQ against round-to-nearest and against their definitions.

#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/gram.h"
#include "lib/support/parallel.h"
#include "lib/support/random.h"
#include "passes/quantize/solver/output_error.h"
#include "passes/quantize/solver/awq_solver.h"
#include "passes/quantize/solver/hqq_solver.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;

namespace {

struct Activations {
    std::vector<double> gram, meanAbsolute;
};

/// A few channels are 30 times as large as the others, as in real models.
Activations withOutliers(std::int64_t n) {
    constexpr std::int64_t kRows = 300;
    Random random(5, "activations");
    std::vector<float> x(static_cast<std::size_t>(n * kRows));
    Activations result{std::vector<double>(static_cast<std::size_t>(n * n), 0.0),
                       std::vector<double>(static_cast<std::size_t>(n), 0.0)};
    for (std::int64_t row = 0; row < kRows; ++row)
        for (std::int64_t i = 0; i < n; ++i) {
            const double value = random.normal() * (i % 23 == 4 ? 30.0 : 1.0);
            x[static_cast<std::size_t>(row * n + i)] = static_cast<float>(value);
            result.meanAbsolute[static_cast<std::size_t>(i)] += std::fabs(value) / kRows;
        }
    kernels::accumulateGram(x, kRows, n, result.gram);
    return result;
}

QuantizationRule ruleOf(int bits, Symmetry symmetry, RangeChoice range) {
    QuantizationRule rule;
    rule.bits = bits;
    rule.symmetry = symmetry;
    rule.range = range;
    return rule;
}

double squaredError(std::span<const float> weights, const QuantizedWeights& quantized,
                    std::span<const float> importance, std::size_t axis) {
    const std::vector<float> after = dequantizeWeights(quantized);
    double sum = 0;
    for (std::size_t i = 0; i < after.size(); ++i)
        sum += importance[axis == 0 ? i / 64 : i % 64] * std::pow(static_cast<double>(weights[i]) - after[i], 2);
    return sum;
}

}  // namespace

TEST_CASE("AWQ beats rounding to nearest where few activations are large") {
    const int bits = GENERATE(4, 3, 2);
    const Shape shape{128, 60};
    const Tensor first = test::randomTensor(shape, 1), second = test::randomTensor(shape, 2);
    const Activations x = withOutliers(128);
    const auto layout = groupedLayout(shape, 0, 32);
    const auto rule = ruleOf(bits, Symmetry::asymmetric, RangeChoice::mse);
    const std::vector<AwqLayer> layers{{first.data<float>(), layout}, {second.data<float>(), layout}};
    const auto solved = quantizeByAwq(layers, rule, x.gram, x.meanAbsolute, 20);
    REQUIRE(solved);
    REQUIRE(solved->weights.size() == 2);
    CHECK(solved->exponent > 0);
    double before = 0, after = 0;
    for (std::size_t k = 0; k < 2; ++k) {
        const auto nearest = quantizeWeights(layers[k].weights, layout, rule);
        REQUIRE(nearest);
        std::vector<float> plain = dequantizeWeights(*nearest),
                           scaled = dequantizeWeights(solved->weights[k]);
        for (std::size_t i = 0; i < plain.size(); ++i) {
            plain[i] -= layers[k].weights[i];
            scaled[i] = scaled[i] / solved->scales[i / 60] - layers[k].weights[i];
        }
        before += outputEnergy(plain, layout, x.gram);
        after += outputEnergy(scaled, layout, x.gram);
    }
    CHECK(after == Approx(solved->error).epsilon(1e-3));
    CHECK(after < 0.5 * before);
}

TEST_CASE("AWQ scales nothing where all activations are alike or there are none") {
    const Shape shape{32, 20};
    const Tensor weights = test::randomTensor(shape, 4);
    const double energy = GENERATE(0.0, 1.0);
    std::vector<double> gram(32 * 32, 0.0);
    for (std::size_t i = 0; i < 32; ++i) gram[i * 33] = energy;
    const std::vector<double> mean(32, energy);
    const auto layout = groupedLayout(shape, 0, 32);
    const auto rule = ruleOf(4, Symmetry::fullRange, RangeChoice::minmax);
    const std::vector<AwqLayer> layers{{weights.data<float>(), layout}};
    const auto solved = quantizeByAwq(layers, rule, gram, mean, 10);
    REQUIRE(solved);
    CHECK(solved->exponent == 0);
    CHECK(solved->weights[0].codes == quantizeWeights(weights.data<float>(), layout, rule)->codes);
}

TEST_CASE("HQQ lowers the error that counts, from either range") {
    const int bits = GENERATE(8, 4, 3, 2);
    const Symmetry symmetry = GENERATE(Symmetry::asymmetric, Symmetry::fullRange);
    const std::size_t axis = GENERATE(0, 1);
    const Shape shape{96, 64};
    const Tensor weights = test::randomTensor(shape, 6);
    const auto layout = groupedLayout(shape, axis, 32);
    std::vector<float> importance(96, 1);
    const bool isWeighed = GENERATE(false, true);
    if (isWeighed)
        for (std::size_t i = 0; i < importance.size(); ++i) importance[i] = i % 7 == 0 ? 50 : 1;
    const auto given = isWeighed ? std::span(importance).first(axis == 0 ? 96 : 64) : std::span<const float>{};
    const auto errorOf = [&](const QuantizedWeights& quantized) {
        return squaredError(weights.data<float>(), quantized, importance, axis);
    };
    const auto rule = ruleOf(bits, symmetry, RangeChoice::mse);
    const auto solved = quantizeByHqq(weights.data<float>(), layout, rule, {}, given);
    REQUIRE(solved);
    for (const RangeChoice range : {RangeChoice::minmax, RangeChoice::mse}) {
        const auto nearest = quantizeWeights(weights.data<float>(), layout, ruleOf(bits, symmetry, range));
        REQUIRE(nearest);
        INFO(bits << " bits: " << errorOf(*nearest) << " to " << errorOf(*solved));
        // Four codes without a zero point leave next to nothing to gain over the best cut: 0.06 to 0.08 %.
        const bool isSmall = bits == 2 && symmetry == Symmetry::fullRange && !isWeighed && range == RangeChoice::mse;
        CHECK(errorOf(*solved) < (isSmall ? 0.9996 : 0.999) * errorOf(*nearest));
    }
    // The codes are the nearest ones of the grids found.
    const std::vector<float> values = dequantizeWeights(*solved);
    const CodeRange range = codeRange(rule);
    for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t group = axis == 0 ? i / 64 / 32 * 64 + i % 64 : i / 64 * 2 + i % 64 / 32;
        const int zero = solved->zeroPoints.empty() ? 0 : solved->zeroPoints[group];
        const float scale = solved->scales[group];
        const float inside = std::clamp(weights.data<float>()[i],
                                        std::min((range.low - zero) * scale, (range.high - zero) * scale),
                                        std::max((range.low - zero) * scale, (range.high - zero) * scale));
        CHECK(std::fabs(values[i] - inside) <= 0.5001F * std::fabs(scale));
    }
}

TEST_CASE("HQQ: the number of threads changes no byte, zeros stay zeros") {
    const Shape shape{64, 70};
    const Tensor weights = test::randomTensor(shape, 12);
    const auto run = [&](int threads) {
        setThreadCount(threads);
        auto result = quantizeByHqq(weights.data<float>(), groupedLayout(shape, 1, 16),
                                    ruleOf(3, Symmetry::asymmetric, RangeChoice::mse), {});
        setThreadCount(0);
        REQUIRE(result);
        return *result;
    };
    const QuantizedWeights one = run(1), four = run(4);
    CHECK(one.codes == four.codes);
    CHECK(one.scales == four.scales);
    const std::vector<float> zeros(64, 0.0F);
    const auto nothing = quantizeByHqq(zeros, groupedLayout({4, 16}, 1, 16),
                                       ruleOf(4, Symmetry::asymmetric, RangeChoice::mse), {});
    REQUIRE(nothing);
    for (const float value : dequantizeWeights(*nothing)) CHECK(value == 0.0F);
}
