// GPTQ against a literal reading of its definition, against every possible rounding of a small matrix, and
// against round-to-nearest.

#include "passes/quantize/solver/gptq_solver.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "kernels/gram.h"
#include "kernels/linalg.h"
#include "lib/support/parallel.h"
#include "lib/support/random.h"
#include "passes/quantize/solver/output_error.h"
#include "tests/unit/passes/gptq_of_moment.h"
#include "tests/unit/passes/noise.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;
using test::correlatedMoment;

namespace {

QuantizationRule ruleOf(int bits, Symmetry symmetry, RangeChoice range = RangeChoice::mse) {
    QuantizationRule rule;
    rule.bits = bits;
    rule.symmetry = symmetry;
    rule.range = range;
    return rule;
}

/// The published algorithm for one output channel: the inverse of the damped H, updated by elimination after
/// each rounding.
std::vector<float> literalGptq(const std::vector<float>& weights, const QuantizedWeights& grids,
                               const std::vector<double>& h, double damp, bool activationOrder) {
    const auto n = weights.size();
    double mean = 0;
    for (std::size_t i = 0; i < n; ++i) mean += h[i * n + i] / static_cast<double>(n);
    std::vector<double> inverse = h;
    for (std::size_t i = 0; i < n; ++i) inverse[i * n + i] += damp * mean;
    kernels::invertPositiveDefinite(inverse, static_cast<std::int64_t>(n));
    std::vector<std::size_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    if (activationOrder)
        std::stable_sort(order.begin(), order.end(),
                         [&](std::size_t a, std::size_t b) { return h[a * n + a] > h[b * n + b]; });
    std::vector<double> w(weights.begin(), weights.end());
    std::vector<float> result(n);
    std::vector<bool> done(n, false);
    const CodeRange range = codeRange(grids.rule);
    for (const std::size_t i : order) {
        const std::size_t group = i / static_cast<std::size_t>(grids.layout.block);
        const double scale = grids.scales[group];
        const int zero = grids.zeroPoints.empty() ? 0 : grids.zeroPoints[group];
        const double q = std::clamp(std::nearbyint(w[i] / scale), static_cast<double>(range.low - zero),
                                    static_cast<double>(range.high - zero));
        result[i] = static_cast<float>(q * scale);
        const double error = (w[i] - result[i]) / inverse[i * n + i];
        done[i] = true;
        for (std::size_t j = 0; j < n; ++j)
            if (!done[j]) w[j] -= error * inverse[i * n + j];
        std::vector<double> eliminated = inverse;
        for (std::size_t a = 0; a < n; ++a)
            for (std::size_t b = 0; b < n; ++b)
                eliminated[a * n + b] -= inverse[a * n + i] * inverse[i * n + b] / inverse[i * n + i];
        inverse = eliminated;
    }
    return result;
}

}  // namespace

TEST_CASE("GPTQ rounds as the published algorithm does") {
    const std::int64_t n = GENERATE(1, 3, 17, 40);
    const std::int64_t block = GENERATE(16, 100);
    const ColumnOrder order = GENERATE(ColumnOrder::natural, ColumnOrder::activation);
    const Symmetry symmetry = GENERATE(Symmetry::fullRange, Symmetry::asymmetric);
    const Tensor weights = test::randomTensor({n, 5}, 3, 1.0);
    const auto h = correlatedMoment(n, 200, 7);
    const auto layout = groupedLayout({n, 5}, 0, std::min(block, n));
    test::GptqOptions options;
    options.order = order;
    options.blockSize = 7;
    const auto solved = test::gptqOf(weights.data<float>(), layout, ruleOf(4, symmetry), h, options);
    REQUIRE(solved);
    const std::vector<float> values = dequantizeWeights(*solved);
    std::size_t different = 0;
    for (std::int64_t channel = 0; channel < 5; ++channel) {
        std::vector<float> column;
        QuantizedWeights grids;
        grids.rule = solved->rule;
        grids.layout = groupedLayout({n}, 0, layout.block);
        for (std::int64_t i = 0; i < n; ++i)
            column.push_back(weights.data<float>()[static_cast<std::size_t>(i * 5 + channel)]);
        for (std::int64_t group = 0; group < layout.blocks(); ++group) {
            grids.scales.push_back(solved->scales[static_cast<std::size_t>(group * 5 + channel)]);
            if (!solved->zeroPoints.empty())
                grids.zeroPoints.push_back(solved->zeroPoints[static_cast<std::size_t>(group * 5 + channel)]);
        }
        const auto expected = literalGptq(column, grids, h, options.damp, order == ColumnOrder::activation);
        for (std::int64_t i = 0; i < n; ++i)
            if (std::fabs(expected[static_cast<std::size_t>(i)] -
                          values[static_cast<std::size_t>(i * 5 + channel)]) > 1e-5F)
                ++different;
    }
    CHECK(different == 0);
}

TEST_CASE("GPTQ comes close to the best rounding there is") {
    constexpr std::int64_t n = 6;
    const std::uint64_t seed = GENERATE(1, 2, 3, 4);
    const Tensor weights = test::randomTensor({n, 1}, seed, 1.0);
    const auto h = correlatedMoment(n, 50, seed);
    const auto layout = groupedLayout({n, 1}, 0, n);
    const auto rule = ruleOf(2, Symmetry::asymmetric);
    const auto nearest = quantizeWeights(weights.data<float>(), layout, rule);
    const auto solved = test::gptqOf(weights.data<float>(), layout, rule, h, {});
    REQUIRE((nearest && solved));
    const auto errorOf = [&](const QuantizedWeights& quantized) {
        return relativeOutputError(weights.data<float>(), dequantizeWeights(quantized), layout, h);
    };
    double best = 1e9;
    for (int choice = 0; choice < 1 << (2 * n); ++choice) {
        QuantizedWeights tried = *nearest;
        for (int i = 0; i < n; ++i) tried.codes[static_cast<std::size_t>(i)] = choice >> (2 * i) & 3;
        best = std::min(best, errorOf(tried));
    }
    CHECK(errorOf(*solved) >= best * 0.999);
    CHECK(errorOf(*solved) <= 1.5 * best + 1e-6);
}

TEST_CASE("GPTQ beats rounding to nearest in the layer's output") {
    const int bits = GENERATE(8, 5, 4, 3, 2, 1);
    // Balanced at 2 bits: three levels.
    const Symmetry symmetry = GENERATE(Symmetry::asymmetric, Symmetry::balanced);
    const std::size_t axis = GENERATE(0, 1);
    const Shape shape = axis == 0 ? Shape{96, 150} : Shape{150, 96};
    const Tensor weights = test::randomTensor(shape, 31);
    const auto h = correlatedMoment(96, 400, 5);
    const auto layout = groupedLayout(shape, axis, 32);
    const auto rule = ruleOf(bits, symmetry);
    const auto nearest = quantizeWeights(weights.data<float>(), layout, rule);
    const auto solved = test::gptqOf(weights.data<float>(), layout, rule, h, {});
    REQUIRE((nearest && solved));
    const double before = relativeOutputError(weights.data<float>(), dequantizeWeights(*nearest), layout, h);
    const double after = relativeOutputError(weights.data<float>(), dequantizeWeights(*solved), layout, h);
    INFO("bits " << bits << ": " << before << " to " << after);
    CHECK(after < 0.8 * before);
    CHECK(solved->scales == nearest->scales);
    CHECK(solved->zeroPoints == nearest->zeroPoints);
}

TEST_CASE("Uncorrelated inputs leave nothing to repay: GPTQ rounds to nearest") {
    const Shape shape{40, 12};
    const Tensor weights = test::randomTensor(shape, 8);
    std::vector<double> h(40 * 40, 0.0);
    const double energy = GENERATE(0.0, 3.0);
    for (std::size_t i = 0; i < 40; ++i) h[i * 40 + i] = energy;
    const auto layout = groupedLayout(shape, 0, 16);
    const auto rule = GENERATE(ruleOf(4, Symmetry::fullRange), ruleOf(1, Symmetry::asymmetric),
                               ruleOf(1, Symmetry::balanced), ruleOf(2, Symmetry::balanced));
    const auto nearest = quantizeWeights(weights.data<float>(), layout, rule);
    const auto solved = test::gptqOf(weights.data<float>(), layout, rule, h, {});
    REQUIRE((nearest && solved));
    CHECK(solved->codes == nearest->codes);
}

TEST_CASE("GPTQ: the number of threads changes no byte, the block size hardly any code") {
    const Shape shape{200, 130};
    const Tensor weights = test::randomTensor(shape, 9);
    const auto h = correlatedMoment(200, 500, 1);
    const auto run = [&](int threads, std::int64_t blockSize) {
        setThreadCount(threads);
        test::GptqOptions options;
        options.blockSize = blockSize;
        auto result = test::gptqOf(weights.data<float>(), groupedLayout(shape, 0, 32),
                                   ruleOf(4, Symmetry::asymmetric), h, options);
        setThreadCount(0);
        REQUIRE(result);
        return *result;
    };
    const QuantizedWeights one = run(1, 128);
    CHECK(one.codes == run(4, 128).codes);
    const QuantizedWeights small = run(2, 32);
    std::size_t different = 0;
    for (std::size_t i = 0; i < one.codes.size(); ++i) different += one.codes[i] != small.codes[i] ? 1 : 0;
    CHECK(different < one.codes.size() / 100);
}

TEST_CASE("The output error is that of the rows the moment was made from") {
    constexpr std::int64_t rows = 30, n = 7, outputs = 4;
    const Tensor x = test::randomTensor({rows, n}, 1, 1.0), w = test::randomTensor({outputs, n}, 2, 1.0);
    const Tensor v = test::randomTensor({outputs, n}, 3, 1.0);
    std::vector<double> gram(n * n, 0.0);
    kernels::accumulateGram(x.data<float>(), rows, n, gram);
    double lost = 0, all = 0;
    for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t out = 0; out < outputs; ++out) {
            double before = 0, after = 0;
            for (std::int64_t i = 0; i < n; ++i) {
                const double value = x.data<float>()[static_cast<std::size_t>(row * n + i)];
                before += value * w.data<float>()[static_cast<std::size_t>(out * n + i)];
                after += value * v.data<float>()[static_cast<std::size_t>(out * n + i)];
            }
            lost += (before - after) * (before - after);
            all += before * before;
        }
    const auto layout = groupedLayout({outputs, n}, 1, n);
    CHECK(outputEnergy(w.data<float>(), layout, gram) == Approx(all).epsilon(1e-4));
    CHECK(relativeOutputError(w.data<float>(), v.data<float>(), layout, gram) ==
          Approx(std::sqrt(lost / all)).epsilon(1e-4));
}
