// Refits and removals against their definitions: plain least squares on the rows themselves, and every possible choice.

#include "passes/support/refit.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>
#include <set>

#include "kernels/linalg.h"
#include "passes/support/obs.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;

namespace {

constexpr std::int64_t kInputs = 7, kOutputs = 3;

/// Rows with a mean and correlated columns, what a layer makes of them, and an error of the stream.
struct Rows {
    std::int64_t count;
    std::vector<float> x, y, e;
};

std::vector<float> noise(std::int64_t count, std::uint64_t seed, double deviation) {
    const Tensor tensor = test::randomTensor({count}, seed, deviation);
    const auto values = tensor.data<float>();
    return {values.begin(), values.end()};
}

Rows randomRows(std::int64_t count, std::uint64_t seed) {
    Rows rows{count, noise(count * kInputs, seed, 1.0), noise(count * kOutputs, seed + 1, 0.5),
              noise(count * kOutputs, seed + 2, 0.3)};
    for (std::int64_t r = 0; r < count; ++r) {
        float* const x = rows.x.data() + r * kInputs;
        for (std::int64_t i = 1; i < kInputs; ++i) x[i] += 0.6f * x[i - 1] + 0.4f;
        for (std::int64_t o = 0; o < kOutputs; ++o) {
            rows.y[static_cast<std::size_t>(r * kOutputs + o)] += 0.7f * x[o] - 0.3f * x[o + 2] + 1.0f;
            rows.e[static_cast<std::size_t>(r * kOutputs + o)] += 0.2f * x[o + 3];
        }
    }
    return rows;
}

LayerSums sumsOf(const Rows& rows) {
    LayerSums sums(kInputs, kOutputs);
    // In two pieces, as batches come.
    const auto first = static_cast<std::size_t>(rows.count / 3);
    const std::span<const float> x(rows.x), y(rows.y), e(rows.e);
    sums.add(x.first(first * kInputs), y.first(first * kOutputs), e.first(first * kOutputs), rows.count / 3);
    sums.add(x.subspan(first * kInputs), y.subspan(first * kOutputs), e.subspan(first * kOutputs),
             rows.count - rows.count / 3);
    return sums;
}

LinearLayer randomLayer(std::uint64_t seed) {
    const auto weight = noise(kInputs * kOutputs, seed, 0.5), bias = noise(kOutputs, seed + 1, 0.5);
    return {{weight.begin(), weight.end()}, {bias.begin(), bias.end()}};
}

double errorOnRows(const Rows& rows, const LinearLayer& layer, double share) {
    double sum = 0;
    for (std::int64_t r = 0; r < rows.count; ++r)
        for (std::int64_t o = 0; o < kOutputs; ++o) {
            const auto at = static_cast<std::size_t>(r * kOutputs + o);
            double left = rows.y[at] + share * rows.e[at] - layer.bias[static_cast<std::size_t>(o)];
            for (std::int64_t i = 0; i < kInputs; ++i)
                left -= static_cast<double>(rows.x[static_cast<std::size_t>(r * kInputs + i)]) *
                        layer.weight[static_cast<std::size_t>(i * kOutputs + o)];
            sum += left * left;
        }
    return sum;
}

/// The same minimum by LAPACK's least squares: rows of data, and one row for each weight that the ridge holds.
LinearLayer directRefit(const Rows& rows, const LinearLayer& start, double lambda, double share, BiasFit bias) {
    const std::int64_t unknowns = kInputs + (bias == BiasFit::fitted ? 1 : 0);
    const std::int64_t equations = rows.count + kInputs;
    std::vector<double> a(static_cast<std::size_t>(equations * unknowns));
    std::vector<double> b(static_cast<std::size_t>(equations * kOutputs));
    for (std::int64_t r = 0; r < rows.count; ++r) {
        for (std::int64_t i = 0; i < kInputs; ++i)
            a[static_cast<std::size_t>(r * unknowns + i)] = rows.x[static_cast<std::size_t>(r * kInputs + i)];
        if (bias == BiasFit::fitted) a[static_cast<std::size_t>(r * unknowns + kInputs)] = 1;
        for (std::int64_t o = 0; o < kOutputs; ++o) {
            const auto at = static_cast<std::size_t>(r * kOutputs + o);
            b[at] = rows.y[at] + share * rows.e[at] -
                    (bias == BiasFit::kept ? start.bias[static_cast<std::size_t>(o)] : 0.0);
        }
    }
    for (std::int64_t i = 0; i < kInputs; ++i) {
        a[static_cast<std::size_t>((rows.count + i) * unknowns + i)] = std::sqrt(lambda);
        for (std::int64_t o = 0; o < kOutputs; ++o)
            b[static_cast<std::size_t>((rows.count + i) * kOutputs + o)] =
                std::sqrt(lambda) * start.weight[static_cast<std::size_t>(i * kOutputs + o)];
    }
    const auto solution = kernels::leastSquares(a, equations, unknowns, b, kOutputs, 1e-12);
    LinearLayer result = start;
    std::copy_n(solution.begin(), kInputs * kOutputs, result.weight.begin());
    if (bias == BiasFit::fitted)
        std::copy_n(solution.begin() + kInputs * kOutputs, kOutputs, result.bias.begin());
    return result;
}

double lambdaOf(const LayerSums& sums, const RefitChoice& choice) {
    std::vector<double> with = hessian(sums, choice), without = sums.xx;
    if (choice.bias == BiasFit::fitted)
        return with[0] - (sums.xx[0] - sums.x[0] * sums.x[0] / sums.rows);
    return with[0] - without[0];
}

void checkSame(const std::vector<double>& a, const std::vector<double>& b) {
    REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == Approx(b[i]).margin(1e-5));
}

}  // namespace

TEST_CASE("the error of a layer is known from the sums") {
    const Rows rows = randomRows(40, 1);
    const LinearLayer layer = randomLayer(10);
    for (const double share : {0.0, 0.4, 1.0})
        CHECK(squaredError(sumsOf(rows), layer, share) == Approx(errorOnRows(rows, layer, share)).epsilon(1e-6));
}

TEST_CASE("a refit is the direct solution of ridge regression on the rows") {
    const Rows rows = randomRows(60, 2);
    const LayerSums sums = sumsOf(rows);
    const LinearLayer start = randomLayer(20);
    for (const BiasFit bias : {BiasFit::kept, BiasFit::fitted})
        for (const double ridge : {1e-4, 0.3})
            for (const double share : {0.0, 0.7}) {
                const RefitChoice choice{ridge, share, bias, 0};
                const LinearLayer found = refit(sums, start, choice);
                const LinearLayer expected = directRefit(rows, start, lambdaOf(sums, choice), share, bias);
                checkSame(found.weight, expected.weight);
                checkSame(found.bias, expected.bias);
            }
}

TEST_CASE("the choice is the best of all that were possible on held-back rows") {
    const Rows fit = randomRows(12, 3), held = randomRows(30, 4);
    const Evidence evidence{sumsOf(fit), sumsOf(held)};
    const LinearLayer start = randomLayer(30);
    const RefitChoice choice = chooseRefit(evidence, start, BiasFit::fitted);
    const double chosen = errorOnRows(held, refit(evidence.fit, start, choice), 1);
    CHECK(choice.heldError * evidence.held.yy == Approx(chosen).epsilon(1e-5));
    for (const BiasFit bias : {BiasFit::kept, BiasFit::fitted})
        for (const double ridge : {1e-3, 1e-2, 0.1, 0.3, 1.0, 10.0})
            for (double share = 0; share <= 1; share += 0.25)
                CHECK(chosen <= errorOnRows(held, refit(evidence.fit, start, {ridge, share, bias, 0}), 1) * (1 + 1e-9));
}

TEST_CASE("some outputs alone have the weights that they have among all, and errors that differ by what they differ among all") {
    const Rows rows = randomRows(60, 9);
    const Evidence evidence{sumsOf(rows), sumsOf(randomRows(30, 10))};
    const LinearLayer start = randomLayer(70), other = randomLayer(80);
    const std::vector<std::int64_t> kept = {0, 2};
    const Evidence few = keepOutputs(evidence, kept);
    const RefitChoice choice{0.1, 0.7, BiasFit::fitted, 0};
    const LinearLayer all = refit(evidence.fit, start, choice), alone = refit(few.fit, keepOutputs(start, kept), choice);
    checkSame(alone.weight, keepOutputs(all, kept).weight);
    checkSame(alone.bias, keepOutputs(all, kept).bias);

    // Layers that differ in the outputs kept alone.
    LinearLayer mixed = start;
    for (const std::int64_t o : kept) {
        for (std::int64_t i = 0; i < kInputs; ++i)
            mixed.weight[static_cast<std::size_t>(i * kOutputs + o)] = other.weight[static_cast<std::size_t>(i * kOutputs + o)];
        mixed.bias[static_cast<std::size_t>(o)] = other.bias[static_cast<std::size_t>(o)];
    }
    CHECK(squaredError(few.fit, keepOutputs(mixed, kept), 0.7) - squaredError(few.fit, keepOutputs(start, kept), 0.7) ==
          Approx(errorOnRows(rows, mixed, 0.7) - errorOnRows(rows, start, 0.7)).epsilon(1e-6));
}

TEST_CASE("the fit at one ridge is that of the best share") {
    const Evidence evidence{sumsOf(randomRows(20, 11)), sumsOf(randomRows(30, 12))};
    const LinearLayer start = randomLayer(90);
    for (const BiasFit bias : {BiasFit::kept, BiasFit::fitted}) {
        const RidgeFit fit = fitAtRidge(evidence, start, 0.3, bias);
        const RefitChoice expected = chooseShare(evidence, start, 0.3, bias);
        CHECK(fit.choice.share == expected.share);
        CHECK(fit.choice.share > 0);
        CHECK(fit.choice.heldError == expected.heldError);
        const LinearLayer layer = refit(evidence.fit, start, expected);
        CHECK(fit.layer.weight == layer.weight);
        CHECK(fit.layer.bias == layer.bias);
    }
}

TEST_CASE("with few rows the ridge holds a layer at what it was") {
    // The reference is the layer itself: any departure from it is noise fitted.
    Rows fit = randomRows(4, 5), held = randomRows(50, 6);
    const LinearLayer start = randomLayer(40);
    for (Rows* rows : {&fit, &held})
        for (std::int64_t r = 0; r < rows->count; ++r)
            for (std::int64_t o = 0; o < kOutputs; ++o) {
                double y = start.bias[static_cast<std::size_t>(o)] +
                           0.2 * noise(1, static_cast<std::uint64_t>(1000 + r * kOutputs + o), 1.0)[0];
                for (std::int64_t i = 0; i < kInputs; ++i)
                    y += start.weight[static_cast<std::size_t>(i * kOutputs + o)] *
                         rows->x[static_cast<std::size_t>(r * kInputs + i)];
                rows->y[static_cast<std::size_t>(r * kOutputs + o)] = static_cast<float>(y);
                rows->e[static_cast<std::size_t>(r * kOutputs + o)] = 0;
            }
    CHECK(chooseRefit({sumsOf(fit), sumsOf(held)}, start, BiasFit::fitted).ridge >= 1);
}

namespace {

/// Positive definite, with outputs that belong together and one that counts for much.
std::vector<double> randomMetric(std::int64_t outputs) {
    const std::vector<float> values = noise(outputs * outputs, 90, 1.0);
    const std::vector<double> factor(values.begin(), values.end());
    std::vector<double> metric(factor.size());
    kernels::gemm(kernels::Transposition::yes, kernels::Transposition::no, outputs, outputs, outputs, factor, factor, metric);
    for (std::int64_t o = 0; o < outputs; ++o) metric[static_cast<std::size_t>(o * outputs + o)] += o == 0 ? 10 : 0.1;
    return metric;
}

}  // namespace

TEST_CASE("removal costs are what the best remaining weights miss") {
    const Rows rows = randomRows(80, 7);
    const LayerSums sums = sumsOf(rows);
    const LinearLayer start = randomLayer(50);
    const RefitChoice choice{0.01, 0.5, BiasFit::fitted, 0};
    const std::vector<std::vector<std::int64_t>> groups = {{0, 1}, {2}, {3, 6}, {4}};
    const auto weights = refit(sums, start, choice).weight;
    const std::vector<double> h = hessian(sums, choice);
    std::vector<double> metric;
    if (GENERATE(false, true)) metric = randomMetric(kOutputs);
    const auto counts = [&](std::int64_t a, std::int64_t b) {
        return metric.empty() ? (a == b ? 1.0 : 0.0) : metric[static_cast<std::size_t>(a * kOutputs + b)];
    };

    // The minimum of tr((W − W*)ᵀH(W − W*)A) with the rows of `gone` zero, by solving for the others directly.
    const auto lost = [&](const std::vector<std::size_t>& gone) {
        std::vector<std::int64_t> s;
        for (const std::size_t g : gone) s.insert(s.end(), groups[g].begin(), groups[g].end());
        std::vector<double> inverse = h;
        kernels::invertPositiveDefinite(inverse, kInputs);
        const auto size = static_cast<std::int64_t>(s.size());
        std::vector<double> block;
        for (const auto i : s)
            for (const auto j : s) block.push_back(inverse[static_cast<std::size_t>(i * kInputs + j)]);
        kernels::invertPositiveDefinite(block, size);
        double sum = 0;
        for (std::int64_t i = 0; i < size; ++i)
            for (std::int64_t j = 0; j < size; ++j)
                for (std::int64_t o = 0; o < kOutputs; ++o)
                    for (std::int64_t p = 0; p < kOutputs; ++p)
                        sum += weights[static_cast<std::size_t>(s[static_cast<std::size_t>(i)] * kOutputs + o)] *
                               block[static_cast<std::size_t>(i * size + j)] *
                               weights[static_cast<std::size_t>(s[static_cast<std::size_t>(j)] * kOutputs + p)] * counts(o, p);
        return sum;
    };
    const RemovalOrder order = removalOrder({{h, weights, kOutputs, groups, metric}}, 4);
    REQUIRE(order.groups.size() == 4);
    std::vector<std::size_t> gone;
    for (std::size_t step = 0; step < order.groups.size(); ++step) {
        for (std::size_t other = 0; other < groups.size(); ++other)
            if (std::find(gone.begin(), gone.end(), other) == gone.end()) {
                std::vector<std::size_t> instead = gone;
                instead.push_back(other);
                CHECK(order.error[step] <= lost(instead) * (1 + 1e-9));
            }
        gone.push_back(order.groups[step]);
        CHECK(order.error[step] == Approx(lost(gone)).epsilon(1e-8));
    }
}

TEST_CASE("a refit of the inputs that stay misses what the removal order said") {
    const Rows rows = randomRows(80, 8);
    const LayerSums sums = sumsOf(rows);
    const LinearLayer start = randomLayer(60);
    const RefitChoice choice{1e-9, 1, BiasFit::fitted, 0};
    const LinearLayer best = refit(sums, start, choice);
    std::vector<std::vector<std::int64_t>> groups;
    for (std::int64_t i = 0; i < kInputs; ++i) groups.push_back({i});
    const RemovalOrder order = removalOrder({{hessian(sums, choice), best.weight, kOutputs, groups}}, 4);
    std::vector<std::int64_t> kept;
    for (std::int64_t i = 0; i < kInputs; ++i)
        if (std::find(order.groups.begin(), order.groups.end(), static_cast<std::size_t>(i)) ==
            order.groups.end())
            kept.push_back(i);
    const LayerSums left = keepInputs(sums, kept);
    const LinearLayer after = refit(left, keepInputs(start, kOutputs, kept), choice);
    CHECK(squaredError(left, after, 1) - squaredError(sums, best, 1) ==
          Approx(order.error.back()).epsilon(1e-5));
}

TEST_CASE("weights on the way are the best of the inputs that stay, however many removals were put together") {
    // More inputs than the surgeon's panel holds, so that removals wait, are taken off, and matrices are packed.
    constexpr std::int64_t kMany = 203, kFew = 5;
    const auto doubles = [](const std::vector<float>& values) { return std::vector<double>(values.begin(), values.end()); };
    const std::vector<double> x = doubles(noise(3 * kMany * kMany, 70, 1.0)), best = doubles(noise(kMany * kFew, 71, 1.0));
    std::vector<double> h(static_cast<std::size_t>(kMany * kMany));
    kernels::gemm(kernels::Transposition::yes, kernels::Transposition::no, kMany, kMany, 3 * kMany, x, x, h);
    const std::int64_t width = GENERATE(1, 7);
    CAPTURE(width);
    std::vector<std::vector<std::int64_t>> groups(static_cast<std::size_t>(kMany / width));
    for (std::int64_t i = 0; i < kMany; ++i) groups[static_cast<std::size_t>(i / width)].push_back(i);
    const std::size_t count = groups.size() - 1;
    std::size_t seen = 0;
    const auto check = [&](std::size_t index, const RemovalOrder& order, const std::vector<std::vector<double>>& weights) {
        CHECK(index == seen++);
        std::vector<bool> stays(static_cast<std::size_t>(kMany), true);
        for (const std::size_t group : order.groups)
            for (const std::int64_t i : groups[group]) stays[static_cast<std::size_t>(i)] = false;
        std::vector<std::int64_t> kept;
        for (std::int64_t i = 0; i < kMany; ++i)
            if (stays[static_cast<std::size_t>(i)]) kept.push_back(i);
        // H_KK·W_K = (H·W*)_K.
        const auto size = std::ssize(kept);
        std::vector<double> block, right(static_cast<std::size_t>(kMany * kFew)), rows;
        kernels::gemm(kernels::Transposition::no, kernels::Transposition::no, kMany, kFew, kMany, h, best, right);
        for (const std::int64_t i : kept) {
            for (const std::int64_t j : kept) block.push_back(h[static_cast<std::size_t>(i * kMany + j)]);
            rows.insert(rows.end(), right.begin() + i * kFew, right.begin() + (i + 1) * kFew);
        }
        kernels::cholesky(block, size);
        for (const auto side : {kernels::Transposition::no, kernels::Transposition::yes})
            kernels::solveTriangular(kernels::Triangle::lower, side, block, size, rows, kFew);
        REQUIRE(weights.front().size() == rows.size());
        for (std::size_t i = 0; i < rows.size(); ++i) REQUIRE(weights.front()[i] == Approx(rows[i]).margin(1e-7));
    };
    // What errors count by decides who goes, not what the others become.
    std::vector<double> metric;
    if (GENERATE(false, true)) metric = randomMetric(kFew);
    const RemovalOrder order = removalOrder({{h, best, kFew, groups, metric}}, count, {{0, 3, count / 2, count}, check});
    CHECK(seen == 4);
    CHECK(std::is_sorted(order.error.begin(), order.error.end()));
    if (!metric.empty()) return;
    // The costs add up to what the last weights miss: tr((W − W*)ᵀ·H·(W − W*)).
    std::vector<double> away(best.size()), product(best.size());
    for (std::size_t i = 0; i < best.size(); ++i) away[i] = -best[i];
    removalOrder({{h, best, kFew, groups}}, count,
                 {{count}, [&](std::size_t, const RemovalOrder& gone, const std::vector<std::vector<double>>& weights) {
                      std::set<std::int64_t> removed;
                      for (const std::size_t group : gone.groups) removed.insert(groups[group].begin(), groups[group].end());
                      std::size_t next = 0;
                      for (std::size_t i = 0; i < away.size(); ++i)
                          if (!removed.contains(static_cast<std::int64_t>(i) / kFew)) away[i] += weights.front()[next++];
                  }});
    kernels::gemm(kernels::Transposition::no, kernels::Transposition::no, kMany, kFew, kMany, h, away, product);
    CHECK(std::inner_product(away.begin(), away.end(), product.begin(), 0.0) == Approx(order.error.back()).epsilon(1e-7));
}
