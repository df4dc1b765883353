// Sparse weights in a metric over inputs and outputs, against its definition: the normal equations of the Kronecker product, the
// best of all patterns, and without a metric the way that knows of none.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/linalg.h"
#include "lib/support/parallel.h"
#include "passes/support/proximal_step.h"
#include "passes/support/sparse_admm.h"
#include "passes/support/sparse_optimum.h"
#include "tests/unit/passes/noise.h"

using namespace tcompress;
using namespace tcompress::passes;
using kernels::Transposition;
using test::correlatedMoment;
using test::noise;

namespace {

/// A layer, what its inputs and its outputs weigh, and its best weights.
struct Problem {
    Problem(std::int64_t inputCount, std::int64_t outputCount, std::uint64_t seed)
        : inputs(inputCount), outputs(outputCount), h(correlatedMoment(inputs, 6 * inputs, seed)),
          a(correlatedMoment(outputs, 6 * outputs, seed + 1)), best(noise(inputs * outputs, seed + 2)) {}

    std::int64_t inputs, outputs;
    std::vector<double> h, a, best;

    /// tr((W − W*)ᵀ·H·(W − W*)·A)
    double loss(const std::vector<double>& weights) const {
        std::vector<double> off(best.size()), left(best.size()), both(best.size());
        for (std::size_t i = 0; i < off.size(); ++i) off[i] = weights[i] - best[i];
        kernels::gemm(Transposition::no, Transposition::no, inputs, outputs, inputs, h, off, left);
        kernels::gemm(Transposition::no, Transposition::no, inputs, outputs, outputs, left, a, both);
        double sum = 0;
        for (std::size_t i = 0; i < off.size(); ++i) sum += off[i] * both[i];
        return sum;
    }

    /// The normal equations of H ⊗ A, restricted to the weights that stay.
    std::vector<double> direct(const SparseMask& mask) const {
        const auto metric = [&](std::size_t k, std::size_t l) {
            const auto rows = static_cast<std::size_t>(inputs), columns = static_cast<std::size_t>(outputs);
            return h[k / columns * rows + l / columns] * a[k % columns * columns + l % columns];
        };
        std::vector<std::size_t> kept;
        for (std::size_t k = 0; k < mask.size(); ++k)
            if (mask[k]) kept.push_back(k);
        std::vector<double> left, right;
        for (const std::size_t k : kept) {
            for (const std::size_t l : kept) left.push_back(metric(k, l));
            double sum = 0;
            for (std::size_t l = 0; l < mask.size(); ++l) sum += metric(k, l) * best[l];
            right.push_back(sum);
        }
        const auto size = std::ssize(kept);
        const std::vector<double> values = kernels::leastSquares(left, size, size, right, 1, 1e-14);
        std::vector<double> result(mask.size());
        for (std::size_t k = 0; k < kept.size(); ++k) result[kept[k]] = values[k];
        return result;
    }

    SparseWeights admm(const SparsePattern& pattern, double sparsity, const std::vector<double>& metric) const {
        return alternatingDirections(h, best, outputs, pattern, sparsity, {}, metric);
    }
    std::vector<double> optimum(const SparseWeights& found, const std::vector<double>& metric) const {
        return sparseOptimum(h, best, outputs, found.mask, found.weights, metric);
    }
};

std::vector<double> diagonal(std::int64_t size, double value) {
    std::vector<double> result(static_cast<std::size_t>(size * size));
    for (std::int64_t i = 0; i < size; ++i) result[static_cast<std::size_t>(i * size + i)] = value;
    return result;
}

bool isFinite(const std::vector<double>& values) {
    return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

}  // namespace

TEST_CASE("with a metric of outputs conjugate gradients reach the direct solution") {
    const Problem problem(13, 11, 40);
    SparseMask mask;
    for (const double value : noise(problem.inputs * problem.outputs, 43)) mask.push_back(value > 0);
    const std::vector<double> direct = problem.direct(mask);
    const std::vector<double> found = sparseOptimum(problem.h, problem.best, problem.outputs, mask, {}, problem.a);
    for (std::size_t i = 0; i < mask.size(); ++i)
        if (!mask[i] && found[i] != 0) FAIL("a weight that goes is not zero");
    CHECK(problem.loss(found) == Approx(problem.loss(direct)).epsilon(1e-3));
    // The best of each output by itself is another.
    CHECK(problem.loss(sparseOptimum(problem.h, problem.best, problem.outputs, mask)) > 1.1 * problem.loss(direct));
    // From a little beside it.
    std::vector<double> near = direct;
    const auto off = noise(std::ssize(near), 44);
    for (std::size_t i = 0; i < near.size(); ++i) near[i] *= 1 + 0.1 * off[i];
    CHECK(problem.loss(near) > 1.01 * problem.loss(direct));
    CHECK(problem.loss(sparseOptimum(problem.h, problem.best, problem.outputs, mask, near, problem.a)) ==
          Approx(problem.loss(direct)).epsilon(1e-3));
}

TEST_CASE("a metric of outputs that is the identity changes nothing, of whatever scale") {
    Problem problem(96, 24, 50);
    problem.a = diagonal(problem.outputs, 1);
    const double scale = GENERATE(1.0, 1e-7, 1e7);
    CAPTURE(scale);
    for (const char* const text : {"unstructured", "2:4", "block4x1"}) {
        CAPTURE(text);
        const SparsePattern pattern = *parseSparsePattern(text);
        const SparseWeights without = problem.admm(pattern, 0.6, {});
        const SparseWeights with = problem.admm(pattern, 0.6, diagonal(problem.outputs, scale));
        const double own = problem.loss(problem.optimum(with, diagonal(problem.outputs, scale)));
        const double alone = problem.loss(problem.optimum(without, {}));
        CHECK(own < 1.02 * alone);
        CHECK(own > 0.95 * alone);
        CHECK(problem.loss(problem.optimum(without, diagonal(problem.outputs, scale))) == Approx(alone).epsilon(1e-3));
    }
}

TEST_CASE("a proximal step solves its equations, in the basis of both metrics as by the inverse of one") {
    const Problem problem(14, 9, 55);
    const std::vector<double> at = noise(problem.inputs * problem.outputs, 58), off = noise(problem.inputs * problem.outputs, 59);
    const std::vector<float> target(at.begin(), at.end()), difference(off.begin(), off.end());
    std::vector<float> x(target.size()), alone(target.size());
    for (const double penalty : {1.0, 30.0, 1000.0}) {
        CAPTURE(penalty);
        proximalSteps(problem.h, problem.inputs, problem.a, problem.outputs)(penalty)(difference, target, x);
        // A·Y·H + ρ·Y = ρ·D of Y = x − T, outputs × inputs.
        std::vector<double> y(x.size()), left(x.size()), both(x.size());
        for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<double>(x[i]) - static_cast<double>(target[i]);
        kernels::gemm(Transposition::no, Transposition::no, problem.outputs, problem.inputs, problem.outputs, problem.a, y, left);
        kernels::gemm(Transposition::no, Transposition::no, problem.outputs, problem.inputs, problem.inputs, left, problem.h, both);
        double wrong = 0, size = 0;
        for (std::size_t i = 0; i < y.size(); ++i) {
            wrong += std::pow(both[i] + penalty * (y[i] - off[i]), 2);
            size += std::pow(penalty * off[i], 2);
        }
        CHECK(wrong < 1e-4 * size);
        proximalSteps(problem.h, problem.inputs)(penalty)(difference, target, alone);
        proximalSteps(problem.h, problem.inputs, diagonal(problem.outputs, 1), problem.outputs)(penalty)(difference, target, x);
        for (std::size_t i = 0; i < x.size(); ++i)
            if (std::fabs(x[i] - alone[i]) > 1e-5F) FAIL("the identity for A is another step than none");
    }
}

TEST_CASE("with a metric of outputs alternating directions come near the best of all patterns") {
    double best = 0, found = 0, alone = 0;
    for (std::uint64_t seed = 60; seed < 66; ++seed) {
        const Problem problem(4, 3, seed);
        const auto loss = [&](const SparseMask& mask) { return problem.loss(problem.direct(mask)); };
        SparseMask mask(12);
        std::fill(mask.begin() + 6, mask.end(), true);
        double least = loss(mask);
        while (std::next_permutation(mask.begin(), mask.end())) least = std::min(least, loss(mask));
        best += least;
        found += loss(problem.admm(SparsePattern{}, 0.5, problem.a).mask);
        alone += loss(problem.admm(SparsePattern{}, 0.5, {}).mask);
    }
    CAPTURE(best, found, alone);
    CHECK(found < 1.1 * best);
    CHECK(found < 0.8 * alone);
}

TEST_CASE("a pattern chosen in a metric of outputs loses less in it, whichever pattern") {
    const Problem problem(160, 48, 70);
    for (const char* const text : {"unstructured", "2:4", "block4x1", "block2x2"}) {
        CAPTURE(text);
        const SparsePattern pattern = *parseSparsePattern(text);
        const SparseWeights with = problem.admm(pattern, 0.5, problem.a), without = problem.admm(pattern, 0.5, {});
        CHECK(std::count(with.mask.begin(), with.mask.end(), false) == problem.inputs * problem.outputs / 2);
        const double own = problem.loss(problem.optimum(with, problem.a));
        CHECK(own < 0.9 * problem.loss(problem.optimum(without, problem.a)));
        CHECK(own <= 1.0001 * problem.loss(with.weights));
        for (std::int64_t i = 0; i < problem.inputs; ++i)
            for (std::int64_t o = 0; o < problem.outputs; ++o) {
                const auto at = [&](std::int64_t input, std::int64_t output) { return with.mask[static_cast<std::size_t>(input * problem.outputs + output)]; };
                if (!pattern.isGrouped() && at(i, o) != at(i / pattern.inputs * pattern.inputs, o / pattern.outputs * pattern.outputs))
                    FAIL("a block is torn");
                if (pattern.isGrouped() && i % 4 == 0 && at(i, o) + at(i + 1, o) + at(i + 2, o) + at(i + 3, o) != 2) FAIL("not two of four stay");
            }
    }
}

TEST_CASE("with a metric of outputs, too, what is to go first goes") {
    const Problem problem(40, 8, 80);
    SparseMask first(problem.best.size());
    for (std::size_t i = 0; i < first.size(); i += 3) first[i] = true;
    const SparseMask mask = alternatingDirections(problem.h, problem.best, problem.outputs, SparsePattern{}, 0.5, first, problem.a).mask;
    CHECK(std::count(mask.begin(), mask.end(), false) == std::ssize(mask) / 2);
    for (std::size_t i = 0; i < first.size(); i += 3)
        if (mask[i]) FAIL("what is to go first stays");
}

TEST_CASE("outputs that weigh nothing go first and leave the others finite") {
    Problem problem(64, 12, 90);
    const auto outputs = static_cast<std::size_t>(problem.outputs);
    const auto solve = [&] {
        const SparseWeights found = problem.admm(SparsePattern{}, 0.5, problem.a);
        const std::vector<double> weights = problem.optimum(found, problem.a);
        CHECK(isFinite(found.weights));
        CHECK(isFinite(weights));
        CHECK(problem.loss(weights) <= 1.0001 * problem.loss(found.weights));
        return found.mask;
    };
    SECTION("two of them") {
        for (const std::size_t dead : {std::size_t{3}, std::size_t{7}})
            for (std::size_t o = 0; o < outputs; ++o) problem.a[dead * outputs + o] = problem.a[o * outputs + dead] = 0;
        const SparseMask mask = solve();
        for (std::size_t i = 0; i < mask.size(); ++i)
            if (mask[i] && (i % outputs == 3 || i % outputs == 7)) FAIL("a weight stays that the model does not use");
    }
    SECTION("all but one direction") {
        const std::vector<double> g = noise(problem.outputs, 93);
        for (std::size_t i = 0; i < problem.a.size(); ++i) problem.a[i] = g[i / outputs] * g[i % outputs];
        solve();
    }
    SECTION("all of them") {
        std::fill(problem.a.begin(), problem.a.end(), 0.0);
        CHECK(solve() == problem.admm(SparsePattern{}, 0.5, diagonal(problem.outputs, 1)).mask);
    }
}

TEST_CASE("sparse weights in a metric of outputs are the same bytes for any number of threads") {
    const Problem problem(136, 72, 95);
    std::vector<SparseWeights> found;
    std::vector<std::vector<double>> best;
    for (const int threads : {1, 2, 3, 8}) {
        setThreadCount(threads);
        found.push_back(problem.admm(SparsePattern{}, 0.5, problem.a));
        best.push_back(problem.optimum(found.back(), problem.a));
    }
    setThreadCount(0);
    for (std::size_t i = 1; i < found.size(); ++i) {
        CHECK((found[i].mask == found[0].mask && found[i].weights == found[0].weights));
        CHECK(best[i] == best[0]);
    }
}
