// What a layer may be fitted to is what was asked for, whichever damping turns out best.

#include "passes/quantize/solver/gptq_fit.h"

#include <catch2/catch.hpp>

#include "kernels/gram.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;
using calibration::Moments;

namespace {

constexpr std::int64_t kInputs = 24, kOutputs = 6;

/// Moments of rows X and of Y = X·W + noise.
Moments momentsOf(std::int64_t rows, std::span<const float> weights, std::uint64_t seed) {
    const Tensor inputs = test::randomTensor({rows, kInputs}, seed, 1.0);
    const Tensor noise = test::randomTensor({rows, kOutputs}, seed + 1, 0.5);
    const auto x = inputs.data<float>();
    Moments moments;
    moments.rows = rows;
    moments.inputs = kInputs;
    moments.sum.resize(kInputs);
    moments.gram.resize(kInputs * kInputs);
    kernels::accumulateGram(x, rows, kInputs, moments.gram);
    Moments::Cross target;
    target.outputs = kOutputs;
    target.product.resize(kInputs * kOutputs);
    target.sum.resize(kOutputs);
    target.squares.resize(kOutputs);
    for (std::int64_t row = 0; row < rows; ++row) {
        const auto ofRow = x.subspan(static_cast<std::size_t>(row * kInputs), kInputs);
        for (std::size_t i = 0; i < ofRow.size(); ++i) moments.sum[i] += ofRow[i];
        for (std::size_t c = 0; c < kOutputs; ++c) {
            double y = noise.data<float>()[static_cast<std::size_t>(row) * kOutputs + c];
            for (std::size_t i = 0; i < ofRow.size(); ++i)
                y += static_cast<double>(ofRow[i]) * weights[i * kOutputs + c];
            target.sum[c] += y;
            target.squares[c] += y * y;
            for (std::size_t i = 0; i < ofRow.size(); ++i) target.product[i * kOutputs + c] += ofRow[i] * y;
        }
    }
    moments.targets.push_back(std::move(target));
    return moments;
}

}  // namespace

TEST_CASE("GPTQ fitted to the original's output never falls back on the layer's own") {
    // Few noisy rows: rounding to nearest often beats what is fitted to them with the first damping.
    std::size_t fitted = 0;
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        const Tensor weights = test::randomTensor({kInputs, kOutputs}, 100 + seed, 1.0);
        GptqFit fit;
        fit.weights = weights.data<float>();
        fit.layout = groupedLayout(weights.shape(), 0, kInputs);
        fit.rule.bits = 4;
        fit.moments.fit = momentsOf(12, fit.weights, 200 + 10 * seed);
        fit.moments.heldBack = momentsOf(200, fit.weights, 205 + 10 * seed);
        fit.target = GptqTarget::original;
        fit.damps = {1, 3, 0.01, 0.1};
        fit.sweeps = 0;
        const auto result = fitGptq(fit);
        REQUIRE(result);
        CHECK(result->nearest != result->fromOriginal);
        CHECK(result->error <= result->nearestError);
        fitted += result->fromOriginal ? 1 : 0;
    }
    CHECK(fitted > 0);
}
