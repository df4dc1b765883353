// The choice of a ridge for layers under a constraint, against every ridge tried on all outputs.

#include "passes/support/layerwise.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <mutex>
#include <numeric>

#include "lib/support/error.h"
#include "tests/unit/passes/noise.h"

using namespace tcompress;
using namespace tcompress::passes;
using test::noise;

namespace {

constexpr std::int64_t kInputs = 12, kOutputs = 200;

/// Outputs that a few rows know in part.
LayerSums sumsOf(std::int64_t rows, std::uint64_t seed) {
    const std::vector<double> x = noise(rows * kInputs, seed), left = noise(rows * kOutputs, seed + 1), w = noise(kInputs * kOutputs, 1);
    std::vector<float> inputs(x.begin(), x.end()), outputs;
    for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t o = 0; o < kOutputs; ++o) {
            double y = 2 * left[static_cast<std::size_t>(r * kOutputs + o)];
            for (std::int64_t i = 0; i < kInputs; ++i)
                y += x[static_cast<std::size_t>(r * kInputs + i)] * w[static_cast<std::size_t>(i * kOutputs + o)];
            outputs.push_back(static_cast<float>(y));
        }
    LayerSums sums(kInputs, kOutputs);
    sums.add(inputs, outputs, {}, rows);
    return sums;
}

/// A layer that does nothing yet; biases say which output is which.
LayerProblem problem() {
    LinearLayer start{std::vector<double>(kInputs * kOutputs), std::vector<double>(kOutputs)};
    std::iota(start.bias.begin(), start.bias.end(), 0.0);
    return {nullptr, start, BiasFit::fitted, {sumsOf(20, 2), sumsOf(200, 4)}};
}

/// Under the constraint that weights of the first input are zero.
LinearLayer constrained(LinearLayer layer) {
    std::fill_n(layer.weight.begin(), layer.bias.size(), 0.0);
    return layer;
}

}  // namespace

TEST_CASE("the ridge under a constraint is the best of all outputs, and so is the error that is told") {
    const LayerProblem layer = problem();
    const auto trial = [](const LayerSums&, const LinearLayer&, const RidgeFit& fit) { return constrained(fit.layer); };
    const auto solve = [&](const LayerSums& sums, const RefitChoice& choice) { return constrained(refit(sums, layer.start, choice)); };
    LayerProblem used = layer;
    const ConstrainedFit found = chooseConstrained(used, trial, solve, 1);
    const auto error = [&](double ridge) {
        RefitChoice choice = chooseShare(layer.evidence, layer.start, ridge, layer.bias);
        return squaredError(layer.evidence.held, solve(layer.evidence.fit, choice), 1) / layer.evidence.held.yy;
    };
    CHECK(found.choice.heldError == Approx(error(found.choice.ridge)));
    for (const double ridge : {1e-3, 1e-2, 0.1, 0.3, 1.0}) CHECK(error(ridge) >= found.choice.heldError * (1 - 1e-9));
    const LinearLayer expected = solve(layer.evidence.all(), found.choice);
    CHECK(found.layer.weight == expected.weight);
    CHECK(found.layer.bias == expected.bias);
    CHECK(used.evidence.fit.xx == layer.evidence.all().xx);
    CHECK(used.evidence.fit.xy == layer.evidence.all().xy);
}

TEST_CASE("a trial that fails leaves a problem whole") {
    const LayerProblem layer = problem();
    LayerProblem used = layer;
    const auto trial = [](const LayerSums&, const LinearLayer&, const RidgeFit&) -> LinearLayer { throw PassError("no"); };
    const auto solve = [&](const LayerSums&, const RefitChoice&) { return layer.start; };
    CHECK_THROWS_AS(chooseConstrained(used, trial, solve, 1), PassError);
    CHECK(used.evidence.fit.xx == layer.evidence.fit.xx);
    CHECK(used.evidence.held.xx == layer.evidence.held.xx);
}

TEST_CASE("ridges are tried on about a hundred outputs, in runs of those that stay together") {
    LayerProblem layer = problem();
    const std::int64_t together = GENERATE(1, 4);
    std::mutex mutex;
    std::vector<std::vector<double>> seen;
    const auto trial = [&](const LayerSums& sums, const LinearLayer& start, const RidgeFit& fit) {
        CHECK(sums.outputs == std::ssize(start.bias));
        const std::lock_guard lock(mutex);
        seen.push_back(start.bias);
        return fit.layer;
    };
    const auto solve = [&](const LayerSums& sums, const RefitChoice& choice) { return refit(sums, layer.start, choice); };
    chooseConstrained(layer, trial, solve, together);
    REQUIRE(seen.size() >= 3);
    CHECK(seen.back() == layer.start.bias);
    seen.pop_back();
    for (const std::vector<double>& outputs : seen) {
        REQUIRE(outputs.size() == kOutputs / 2);
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            const auto place = static_cast<std::int64_t>(i);
            CHECK(outputs[i] == static_cast<double>(place / together * 2 * together + place % together));
        }
    }
}
