// One codebook for several layers: its entries against the definition of what they minimise, and what the layers lose
// together.

#include "passes/quantize/codebook/shared_codebook.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "lib/support/parallel.h"
#include "passes/quantize/codebook/codebook_entries.h"
#include "passes/quantize/codebook/codebook_fit.h"
#include "passes/quantize/solver/output_error.h"
#include "tests/unit/passes/noise.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;

namespace {

/// Layers of different shapes and sizes of weights, with correlated inputs.
struct Layers {
    std::vector<Tensor> weights;  ///< [channels, inputs]
    std::vector<std::vector<double>> moments;
    std::vector<SharedLayer> all;

    Layers() {
        add(40, 32, 0.05, 3);
        add(24, 48, 0.5, 5);
        add(70, 16, 0.01, 7);
        for (std::size_t i = 0; i < weights.size(); ++i) {
            const Shape& shape = weights[i].shape();
            all.push_back({shape[1], shape[0],
                           [this, i] {
                               const Shape& own = weights[i].shape();
                               return transposed(weights[i].data<float>(), own[0], own[1]);
                           },
                           [this, i] { return moments[i]; }});
        }
    }
    Layers(const Layers&) = delete;

    void add(std::int64_t channels, std::int64_t inputs, double deviation, std::uint64_t seed) {
        weights.push_back(test::randomTensor({channels, inputs}, seed, deviation));
        moments.push_back(test::correlatedMoment(inputs, 300, seed));
    }

    /// Σ ‖X·(W − V)‖² / ‖X·W‖².
    double loss(const std::vector<CodebookMatrix>& codes) const {
        double sum = 0;
        for (std::size_t i = 0; i < codes.size(); ++i)
            sum += std::pow(relativeOutputError(weights[i].data<float>(), codes[i].decoded(),
                                                groupedLayout(weights[i].shape(), 1, weights[i].shape()[1]), moments[i]),
                            2);
        return sum;
    }
};

std::vector<float> entriesOf(const CodebookMatrix& matrix) {
    std::vector<float> entries;
    for (const CodebookStage& stage : matrix.stages) entries.insert(entries.end(), stage.entries.begin(), stage.entries.end());
    return entries;
}

}  // namespace

TEST_CASE("Layers that share a codebook have the same entries and lose less together with every few turns") {
    const Layers layers;
    const VectorShape shape = GENERATE(VectorShape{4, 32, 1}, VectorShape{8, 16, 2});
    double before = HUGE_VAL;
    for (const std::int64_t turns : {0, 1, 3, 8}) {
        const auto codes = withSharedVectors(layers.all, shape, turns, Random(1, "test"));
        REQUIRE(codes.size() == 3);
        for (const CodebookMatrix& matrix : codes) CHECK(entriesOf(matrix) == entriesOf(codes.front()));
        const double loss = layers.loss(codes);
        INFO(turns << " turns: " << before << " to " << loss);
        CHECK(loss < (turns == 1 ? 0.9 : 1.0) * before);
        before = loss;
    }
}

TEST_CASE("A shared codebook is the same for any number of threads") {
    const Layers layers;
    const auto shared = [&] { return withSharedVectors(layers.all, {4, 32, 1}, 2, Random(1, "test")); };
    const auto several = shared();
    const int threads = threadCount();
    setThreadCount(1);
    const auto single = shared();
    setThreadCount(threads);
    for (std::size_t i = 0; i < single.size(); ++i) CHECK(single[i].decoded() == several[i].decoded());
}

TEST_CASE("A layer that shares with nobody has the codebook that it has by itself") {
    const Layers layers;
    const VectorShape shape{4, 16, 2};
    const auto alone = withSharedVectors({layers.all[1]}, shape, 0, Random(1, "test"));
    WeightMatrix matrix{layers.weights[1].data<float>(), 24, 48, {}};
    for (std::size_t i = 0; i < 48; ++i) matrix.importance.push_back(static_cast<float>(layers.moments[1][i * 49]));
    CHECK(alone.front().decoded() == withVectors(matrix, shape, Random(1, "test")).decoded());
}

TEST_CASE("Shared entries become the solution of the layers' least squares") {
    const Layers layers;
    // As many unknowns as conjugate gradients take steps: they end at the solution.
    auto codes = withSharedVectors(layers.all, {2, 2, 1}, 0, Random(1, "test"));
    EntryEquations equations;
    std::vector<OutputGradient> gradients;
    const std::vector<double> shares{1, 0.5, 2};
    for (std::size_t i = 0; i < 3; ++i) {
        const SharedLayer& layer = layers.all[i];
        OutputGradient& gradient = gradients.emplace_back(layer.secondMoment(), layer.inputs, layer.channels, 0);
        std::vector<float> error = layer.weights();
        const std::vector<float> values = transposed(codes[i].decoded(), layer.channels, layer.inputs);
        for (std::size_t at = 0; at < error.size(); ++at) error[at] -= values[at];
        gradient.add(0, layer.inputs, error.data(), 1);
        equations.add({codes[i], gradient}, shares[i]);
    }
    const auto curvature = [&](std::span<const double> direction) {
        std::vector<double> all(direction.size(), 0.0);
        for (std::size_t i = 0; i < 3; ++i) {
            const std::vector<double> part = entryCurvature(codes[i], gradients[i], direction);
            for (std::size_t entry = 0; entry < all.size(); ++entry) all[entry] += shares[i] * part[entry];
        }
        return all;
    };
    const std::vector<double> change = entryChange(equations, curvature);
    REQUIRE(change.size() == 4);
    // Where the gradient ends, and that the equations are those of the loss: by differences of it.
    const std::vector<double> used = curvature(change);
    double largest = 0;
    for (const double slope : equations.slopes) largest = std::max(largest, std::abs(slope));
    for (std::size_t i = 0; i < 4; ++i) CHECK(std::abs(equations.slopes[i] - used[i]) < 1e-4 * largest);
    const auto lossAt = [&](std::span<const double> moved) {
        double sum = 0;
        for (std::size_t i = 0; i < 3; ++i) {
            CodebookMatrix other = codes[i];
            for (std::size_t entry = 0; entry < 4; ++entry)
                other.stages.front().entries[entry] += static_cast<float>(moved[entry]);
            const SharedLayer& layer = layers.all[i];
            std::vector<float> error = layer.weights(), rows(error.size());
            const std::vector<float> values = transposed(other.decoded(), layer.channels, layer.inputs);
            for (std::size_t at = 0; at < error.size(); ++at) error[at] -= values[at];
            gradients[i].product(0, layer.inputs, error.data(), rows.data());
            for (std::size_t at = 0; at < error.size(); ++at) sum += shares[i] * static_cast<double>(error[at]) * rows[at];
        }
        return sum;
    };
    const double least = lossAt(change);
    CHECK(least < lossAt(std::vector<double>(4, 0.0)));
    for (std::size_t i = 0; i < 4; ++i)
        for (const double step : {-0.02, 0.02}) {
            std::vector<double> other = change;
            other[i] += step;
            CHECK(lossAt(other) > least);
        }
}
