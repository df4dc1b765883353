// Sparse solutions against the definition: exact least squares for a pattern, one weight at a time by Optimal Brain
// Surgeon's formula, and counts of what a pattern asks for.

#include "passes/support/sparse_obs.h"

#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/linalg.h"
#include "passes/support/sparse_admm.h"
#include "passes/support/sparse_optimum.h"
#include "tests/unit/passes/noise.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;
using test::noise;

namespace {

/// XᵀX of correlated columns of very different sizes, and a little of the identity.
std::vector<double> hessianOf(std::int64_t inputs, std::uint64_t seed) {
    const std::int64_t rows = inputs * 3;
    std::vector<double> x = noise(rows * inputs, seed), h(static_cast<std::size_t>(inputs * inputs));
    for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t i = 1; i < inputs; ++i)
            x[static_cast<std::size_t>(r * inputs + i)] += 0.7 * x[static_cast<std::size_t>(r * inputs + i - 1)];
    const std::vector<double> sizes = noise(inputs, seed + 100);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] *= std::exp(sizes[i % static_cast<std::size_t>(inputs)]);
    kernels::gemm(kernels::Transposition::yes, kernels::Transposition::no, inputs, inputs, rows, x, x, h);
    for (std::int64_t i = 0; i < inputs; ++i) h[static_cast<std::size_t>(i * inputs + i)] += 0.1;
    return h;
}

double lossOf(const std::vector<double>& h, const std::vector<double>& w, const std::vector<double>& best,
              std::int64_t outputs) {
    const auto inputs = static_cast<std::int64_t>(w.size()) / outputs;
    double sum = 0;
    for (std::int64_t o = 0; o < outputs; ++o)
        for (std::int64_t i = 0; i < inputs; ++i)
            for (std::int64_t j = 0; j < inputs; ++j) {
                const auto a = static_cast<std::size_t>(i * outputs + o), b = static_cast<std::size_t>(j * outputs + o);
                sum += (w[a] - best[a]) * h[static_cast<std::size_t>(i * inputs + j)] * (w[b] - best[b]);
            }
    return sum;
}

/// Column by column, by solving H_KK·w_K = (H·W*)_K.
std::vector<double> directOptimum(const std::vector<double>& h, const std::vector<double>& best,
                                  std::int64_t outputs, const SparseMask& mask) {
    const auto inputs = static_cast<std::int64_t>(best.size()) / outputs;
    std::vector<double> result(best.size());
    for (std::int64_t o = 0; o < outputs; ++o) {
        std::vector<std::int64_t> kept;
        for (std::int64_t i = 0; i < inputs; ++i)
            if (mask[static_cast<std::size_t>(i * outputs + o)]) kept.push_back(i);
        const auto size = static_cast<std::int64_t>(kept.size());
        std::vector<double> a, b;
        for (const auto i : kept) {
            double sum = 0;
            for (std::int64_t j = 0; j < inputs; ++j)
                sum += h[static_cast<std::size_t>(i * inputs + j)] * best[static_cast<std::size_t>(j * outputs + o)];
            b.push_back(sum);
            for (const auto j : kept) a.push_back(h[static_cast<std::size_t>(i * inputs + j)]);
        }
        const auto x = kernels::leastSquares(a, size, size, b, 1, 1e-14);
        for (std::size_t k = 0; k < kept.size(); ++k)
            result[static_cast<std::size_t>(kept[k] * outputs + o)] = x[k];
    }
    return result;
}

}  // namespace

TEST_CASE("conjugate gradients reach the direct solution for a pattern") {
    constexpr std::int64_t kInputs = 37, kOutputs = 70;
    const auto h = hessianOf(kInputs, 1), best = noise(kInputs * kOutputs, 2);
    SparseMask mask;
    for (const double value : noise(kInputs * kOutputs, 3)) mask.push_back(value > 0);
    for (std::int64_t i = 0; i < kInputs; ++i) mask[static_cast<std::size_t>(i * kOutputs + 4)] = false;
    const auto found = sparseOptimum(h, best, kOutputs, mask), direct = directOptimum(h, best, kOutputs, mask);
    for (std::size_t i = 0; i < mask.size(); ++i)
        if (!mask[i]) CHECK(found[i] == 0);
    const double least = lossOf(h, direct, best, kOutputs);
    CHECK(lossOf(h, found, best, kOutputs) == Approx(least).epsilon(1e-4));
    // From a little beside it.
    std::vector<double> near = direct;
    const auto off = noise(kInputs * kOutputs, 4);
    for (std::size_t i = 0; i < near.size(); ++i) near[i] *= 1 + 0.1 * off[i];
    CHECK(lossOf(h, near, best, kOutputs) > 1.01 * least);
    CHECK(lossOf(h, sparseOptimum(h, best, kOutputs, mask, near), best, kOutputs) == Approx(least).epsilon(1e-3));
}

TEST_CASE("with one weight to go per output the sweep's first choice is the surgeon's") {
    // All weights but two of each output are far too large to go; of the two the one goes that w² / [H⁻¹]ᵢᵢ names when
    // it comes first in the sweep (nothing before it is frozen).
    constexpr std::int64_t kInputs = 6, kOutputs = 1;
    const auto h = hessianOf(kInputs, 5);
    auto best = std::vector<double>{0.1, 50, 60, -70, 80, 90};
    const SparseMask mask = sweep(h, best, kOutputs, SparsePattern{}, 1.0 / 6).mask;
    CHECK(mask == SparseMask{false, true, true, true, true, true});
}

TEST_CASE("the sweep's pattern loses less than the smallest weights'") {
    constexpr std::int64_t kInputs = 160, kOutputs = 24;
    const auto h = hessianOf(kInputs, 6), best = noise(kInputs * kOutputs, 7);
    std::vector<double> sizes;
    for (const double value : best) sizes.push_back(std::fabs(value));
    for (const char* const text : {"unstructured", "2:4", "block4x1", "block2x2"}) {
        CAPTURE(text);
        const SparsePattern pattern = *parseSparsePattern(text);
        const SparseWeights found = sweep(h, best, kOutputs, pattern, 0.5);
        const SparseMask small = maskByScore(sizes, kOutputs, pattern, 0.5, 0);
        const auto zeros = [](const SparseMask& mask) { return std::count(mask.begin(), mask.end(), false); };
        CHECK(zeros(found.mask) == kInputs * kOutputs / 2);
        CHECK(zeros(small) == kInputs * kOutputs / 2);
        const auto loss = [&](const SparseMask& mask) {
            return lossOf(h, sparseOptimum(h, best, kOutputs, mask), best, kOutputs);
        };
        CHECK(loss(found.mask) < 0.9 * loss(small));
        // What the sweep made of the weights is between the best for its pattern and what they were.
        CHECK(lossOf(h, found.weights, best, kOutputs) >= 0.999 * loss(found.mask));
        std::vector<double> cut = best;
        for (std::size_t i = 0; i < cut.size(); ++i)
            if (!found.mask[i]) CHECK((found.weights[i] == 0 && (cut[i] = 0) == 0));
        CHECK(lossOf(h, found.weights, best, kOutputs) < lossOf(h, cut, best, kOutputs));
    }
}

TEST_CASE("N:M leaves N of every M inputs of each output, blocks go whole") {
    constexpr std::int64_t kInputs = 132, kOutputs = 6;
    const auto h = hessianOf(kInputs, 8), best = noise(kInputs * kOutputs, 9);
    const SparseMask grouped = sweep(h, best, kOutputs, *parseSparsePattern("1:3"), 0).mask;
    for (std::int64_t i = 0; i < kInputs; i += 3)
        for (std::int64_t o = 0; o < kOutputs; ++o) {
            int kept = 0;
            for (std::int64_t k = i; k < i + 3; ++k) kept += grouped[static_cast<std::size_t>(k * kOutputs + o)];
            CHECK(kept == 1);
        }
    const SparseMask blocks = sweep(h, best, kOutputs, *parseSparsePattern("block3x2"), 0.25).mask;
    for (std::int64_t i = 0; i < kInputs; ++i)
        for (std::int64_t o = 0; o < kOutputs; ++o)
            CHECK(blocks[static_cast<std::size_t>(i * kOutputs + o)] ==
                  blocks[static_cast<std::size_t>(i / 3 * 3 * kOutputs + o / 2 * 2)]);
    CHECK(std::count(blocks.begin(), blocks.end(), false) == 33 * 6);
}

TEST_CASE("alternating directions come near the best of all patterns") {
    constexpr std::int64_t kInputs = 10, kOutputs = 1;
    double best = 0, swept = 0, found = 0;
    for (std::uint64_t seed = 20; seed < 32; ++seed) {
        const auto h = hessianOf(kInputs, seed), optimum = noise(kInputs * kOutputs, seed + 50);
        const auto loss = [&](const SparseMask& mask) {
            return lossOf(h, directOptimum(h, optimum, kOutputs, mask), optimum, kOutputs);
        };
        double least = loss(SparseMask(kInputs, false));
        for (unsigned pattern = 0; pattern < 1U << kInputs; ++pattern) {
            if (std::popcount(pattern) != kInputs / 2) continue;
            SparseMask mask;
            for (int i = 0; i < kInputs; ++i) mask.push_back((pattern >> i & 1U) != 0);
            least = std::min(least, loss(mask));
        }
        const double own = loss(alternatingDirections(h, optimum, kOutputs, SparsePattern{}, 0.5).mask);
        CHECK(own >= 0.999 * least);
        best += least;
        found += own;
        swept += loss(sweep(h, optimum, kOutputs, SparsePattern{}, 0.5).mask);
    }
    CAPTURE(best, found, swept);
    CHECK(found < 1.02 * best);
    CHECK(found < swept);
}

TEST_CASE("alternating directions lose less than the sweep, and keep to the pattern") {
    constexpr std::int64_t kInputs = 160, kOutputs = 24;
    const auto h = hessianOf(kInputs, 6), best = noise(kInputs * kOutputs, 7);
    for (const char* const text : {"unstructured", "2:4", "block4x1", "block2x2"}) {
        CAPTURE(text);
        const SparsePattern pattern = *parseSparsePattern(text);
        const SparseWeights found = alternatingDirections(h, best, kOutputs, pattern, 0.5);
        const auto loss = [&](const SparseWeights& weights) {
            return lossOf(h, sparseOptimum(h, best, kOutputs, weights.mask, weights.weights), best, kOutputs);
        };
        CHECK(std::count(found.mask.begin(), found.mask.end(), false) == kInputs * kOutputs / 2);
        CHECK(loss(found) < 0.95 * loss(sweep(h, best, kOutputs, pattern, 0.5)));
        CHECK(loss(found) < lossOf(h, found.weights, best, kOutputs));
        for (std::int64_t i = 0; i < kInputs; ++i)
            for (std::int64_t o = 0; o < kOutputs; ++o) {
                const auto place = static_cast<std::size_t>(i * kOutputs + o);
                if (!found.mask[place] && found.weights[place] != 0) FAIL("a weight that goes is not zero");
                const auto same = static_cast<std::size_t>(i / pattern.inputs * pattern.inputs * kOutputs +
                                                           o / pattern.outputs * pattern.outputs);
                if (!pattern.isGrouped() && found.mask[place] != found.mask[same]) FAIL("a block is torn");
            }
        for (std::int64_t i = 0; pattern.isGrouped() && i < kInputs; i += 4)
            for (std::int64_t o = 0; o < kOutputs; ++o) {
                int kept = 0;
                for (std::int64_t k = i; k < i + 4; ++k) kept += found.mask[static_cast<std::size_t>(k * kOutputs + o)];
                if (kept != 2) FAIL("not two of four stay");
            }
    }
}

TEST_CASE("alternating directions: what is to go first goes, nothing goes at 0, all at 1") {
    constexpr std::int64_t kInputs = 40, kOutputs = 7;
    const auto h = hessianOf(kInputs, 11), best = noise(kInputs * kOutputs, 12);
    SparseMask first(kInputs * kOutputs);
    for (std::size_t i = 0; i < first.size(); i += 3) first[i] = true;
    const SparseMask mask = alternatingDirections(h, best, kOutputs, SparsePattern{}, 0.5, first).mask;
    CHECK(std::count(mask.begin(), mask.end(), false) == kInputs * kOutputs / 2);
    for (std::size_t i = 0; i < first.size(); i += 3) CHECK_FALSE(mask[i]);
    const auto zeros = [&](double sparsity) {
        const SparseMask all = alternatingDirections(h, best, kOutputs, SparsePattern{}, sparsity).mask;
        return std::count(all.begin(), all.end(), false);
    };
    CHECK(zeros(0) == 0);
    CHECK(zeros(1) == kInputs * kOutputs);
}

TEST_CASE("what is no pattern is not read as one") {
    for (const char* const text : {"", "4:2", "0:4", "4:4", "block0x1", "blockx", "2:4:8", "neuron"})
        CHECK_FALSE(parseSparsePattern(text).has_value());
    CHECK(patternRefusal(*parseSparsePattern("2:4"), 8, 3).empty());
    CHECK_FALSE(patternRefusal(*parseSparsePattern("2:4"), 6, 3).empty());
    CHECK_FALSE(patternRefusal(*parseSparsePattern("block1x2"), 6, 3).empty());
}
