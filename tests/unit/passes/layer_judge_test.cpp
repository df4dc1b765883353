// Errors from moments against errors of the rows that the moments are of.

#include "passes/quantize/solver/layer_judge.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/gram.h"
#include "passes/quantize/solver/code_descent.h"
#include "tests/unit/passes/gptq_of_moment.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;
using calibration::Moments;

namespace {

constexpr std::int64_t kRows = 50, kInputs = 7, kOutputs = 5;

/// Rows that are far from their mean 0, as activations behind a GELU are.
std::vector<float> rowsOf(std::int64_t channels, std::uint64_t seed) {
    const Tensor tensor = test::randomTensor({kRows, channels}, seed, 1.0);
    std::vector<float> rows(tensor.data<float>().begin(), tensor.data<float>().end());
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] += static_cast<float>(i % static_cast<std::size_t>(channels));
    return rows;
}

std::vector<double> sumsOf(const std::vector<float>& rows, std::int64_t channels) {
    std::vector<double> sums(static_cast<std::size_t>(channels), 0.0);
    for (std::size_t i = 0; i < rows.size(); ++i) sums[i % sums.size()] += rows[i];
    return sums;
}

Moments momentsOf(const std::vector<float>& x) {
    Moments moments;
    moments.rows = kRows;
    moments.inputs = kInputs;
    moments.sum = sumsOf(x, kInputs);
    moments.gram.resize(kInputs * kInputs);
    kernels::accumulateGram(x, kRows, kInputs, moments.gram);
    return moments;
}

Moments::Cross crossOf(const std::vector<float>& x, const std::vector<float>& y) {
    Moments::Cross cross;
    cross.outputs = kOutputs;
    cross.sum = sumsOf(y, kOutputs);
    cross.squares.assign(kOutputs, 0.0);
    for (std::size_t i = 0; i < y.size(); ++i) cross.squares[i % kOutputs] += y[i] * y[i];
    cross.product.resize(kInputs * kOutputs);
    kernels::accumulateCross(x, y, kRows, kInputs, kOutputs, cross.product);
    return cross;
}

/// x · map, [kRows, kOutputs].
std::vector<double> product(const std::vector<float>& x, std::span<const float> map) {
    std::vector<double> y(kRows * kOutputs, 0.0);
    for (std::int64_t row = 0; row < kRows; ++row)
        for (std::int64_t i = 0; i < kInputs; ++i)
            for (std::int64_t c = 0; c < kOutputs; ++c)
                y[static_cast<std::size_t>(row * kOutputs + c)] +=
                    static_cast<double>(x[static_cast<std::size_t>(row * kInputs + i)]) *
                    map[static_cast<std::size_t>(i * kOutputs + c)];
    return y;
}

}  // namespace

TEST_CASE("A layer is judged as its rows would be, and the constant behind it takes up the mean error") {
    const bool hasTarget = GENERATE(false, true);
    const std::vector<float> x = rowsOf(kInputs, 1), y = rowsOf(kOutputs, 2);
    const Tensor weights = test::randomTensor({kInputs, kOutputs}, 3, 1.0), map = test::randomTensor({kInputs, kOutputs}, 4, 1.0);
    const auto w = weights.data<float>(), v = map.data<float>();
    Moments moments = momentsOf(x);
    std::vector<double> wanted = product(x, w);
    if (hasTarget) {
        wanted.assign(y.begin(), y.end());
        moments.targets.push_back(crossOf(x, y));
    }
    const std::vector<double> bias{0.5, -1, 2, 0, 3};
    double plain = 0, withBias = 0, all = 0;
    std::vector<double> meanError(kOutputs, 0.0);
    const std::vector<double> made = product(x, v);
    for (std::size_t i = 0; i < made.size(); ++i) {
        plain += std::pow(made[i] - wanted[i], 2);
        withBias += std::pow(made[i] + bias[i % kOutputs] - wanted[i], 2);
        all += wanted[i] * wanted[i];
        meanError[i % kOutputs] += (wanted[i] - made[i]) / kRows;
    }
    const LayerJudge judge(moments, w, kOutputs);
    CHECK(judge.squaredTarget() == Approx(all).epsilon(1e-5));
    CHECK(judge.squaredError(v, {}) == Approx(plain).epsilon(1e-5));
    CHECK(judge.squaredError(v, bias) == Approx(withBias).epsilon(1e-5));
    const std::vector<double> constant = unbiasing(moments, w, v, kOutputs);
    for (std::size_t c = 0; c < constant.size(); ++c) CHECK(constant[c] == Approx(meanError[c]).epsilon(1e-5));
}

TEST_CASE("A layer that is as it was has no error against what it gave itself") {
    const bool hasTarget = GENERATE(false, true);
    CAPTURE(hasTarget);
    const std::vector<float> x = rowsOf(kInputs, 1);
    const Tensor weights = test::randomTensor({kInputs, kOutputs}, 3, 1.0);
    const auto w = weights.data<float>();
    Moments moments = momentsOf(x);
    if (hasTarget) {
        const std::vector<double> own = product(x, w);
        moments.targets.push_back(crossOf(x, {own.begin(), own.end()}));
    }
    const LayerJudge judge(moments, w, kOutputs);
    REQUIRE(judge.squaredTarget() > 0);
    CHECK(judge.squaredError(w, {}) == Approx(0).margin(1e-5 * judge.squaredTarget()));
    for (const double shift : unbiasing(moments, w, w, kOutputs)) CHECK(shift == Approx(0).margin(1e-4));
}

TEST_CASE("An output metric of more inputs than are multiplied at once is tr(EᵀHE); descent on them loses less") {
    constexpr std::int64_t n = 1100, channels = 3;
    const Tensor x = test::randomTensor({40, n}, 5, 1.0), weights = test::randomTensor({n, channels}, 6, 1.0);
    std::vector<double> gram(n * n, 0.0);
    kernels::accumulateGram(x.data<float>(), 40, n, gram);
    const auto w = weights.data<float>();
    double energy = 0;
    for (std::size_t row = 0; row < 40; ++row)
        for (std::size_t c = 0; c < channels; ++c) {
            double sum = 0;
            for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(x.data<float>()[row * n + i]) * w[i * channels + c];
            energy += sum * sum;
        }
    CHECK(OutputMetric(gram, n).energy(w) == Approx(energy).epsilon(1e-5));

    const auto layout = groupedLayout({n, channels}, 0, 32);
    QuantizationRule rule;
    rule.bits = 3;
    rule.symmetry = Symmetry::asymmetric;
    auto quantized = test::gptqOf(w, layout, rule, gram, {});
    REQUIRE(quantized);
    const double before = relativeOutputError(w, dequantizeWeights(*quantized), layout, gram);
    descend(*quantized, w, gram, {4, 0.01});
    CHECK(relativeOutputError(w, dequantizeWeights(*quantized), layout, gram) < 0.95 * before);
}
