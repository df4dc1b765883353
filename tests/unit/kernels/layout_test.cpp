// Transposition, strided copies, gather, reductions and comparison.

#include <catch2/catch.hpp>
#include <numeric>

#include "kernels/compare.h"
#include "kernels/gather.h"
#include "kernels/reduce.h"
#include "kernels/transpose.h"
#include "lib/support/error.h"
#include "tests/unit/kernels/kernel_test_support.h"

using namespace tcompress;
using namespace tcompress::kernels;
using namespace tcompress::kernels::test;

namespace {

using Shape = std::vector<std::int64_t>;

std::int64_t count(const Shape& shape) {
    return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

template <class T>
void checkTranspose(const Shape& shape, const Shape& permutation) {
    std::vector<T> x(static_cast<std::size_t>(count(shape)));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(i * 7 + 1);
    std::vector<T> y(x.size());
    transpose(x.data(), sizeof(T), shape, permutation, y.data());
    Shape index(shape.size(), 0);
    for (std::size_t flat = 0; flat < y.size(); ++flat) {
        std::int64_t rest = static_cast<std::int64_t>(flat);
        for (std::size_t d = shape.size(); d-- > 0;) {
            const auto axis = static_cast<std::size_t>(permutation[d]);
            index[axis] = rest % shape[axis];
            rest /= shape[axis];
        }
        std::int64_t source = 0;
        for (std::size_t d = 0; d < shape.size(); ++d) source = source * shape[d] + index[d];
        if (y[flat] != x[static_cast<std::size_t>(source)]) FAIL("element " << flat);
    }
}

}  // namespace

TEST_CASE("transposition by any permutation, for every width") {
    Restore restore;
    const std::vector<std::pair<Shape, Shape>> cases = {
        {{}, {}},
        {{5}, {0}},
        {{3, 4}, {1, 0}},
        {{33, 70}, {1, 0}},
        {{700, 300}, {1, 0}},
        {{2, 3, 4}, {0, 1, 2}},
        {{2, 3, 4}, {2, 1, 0}},
        {{2, 17, 3, 9}, {0, 2, 1, 3}},
        {{2, 17, 3, 9}, {0, 2, 3, 1}},
        {{4, 1, 8, 1, 20}, {4, 3, 0, 1, 2}},
        {{2, 3, 2, 5, 2, 3}, {5, 0, 3, 2, 4, 1}},
        {{0, 3}, {1, 0}},
    };
    for (const int threads : {1, 3}) {
        setThreadCount(threads);
        for (const auto& [shape, permutation] : cases) {
            checkTranspose<std::uint8_t>(shape, permutation);
            checkTranspose<std::uint16_t>(shape, permutation);
            checkTranspose<std::uint32_t>(shape, permutation);
            checkTranspose<std::uint64_t>(shape, permutation);
        }
    }
}

TEST_CASE("strided copies: reversed, broadcast, with gaps") {
    const std::vector<float> x = {1, 2, 3, 4, 5, 6};
    std::vector<float> y(6);
    copyStrided(x.data() + 5, 4, Shape{2, 3}, Shape{-3, -1}, Shape{3, 1}, y.data());
    CHECK(y == std::vector<float>{6, 5, 4, 3, 2, 1});
    copyStrided(x.data(), 4, Shape{2, 3}, Shape{0, 2}, Shape{3, 1}, y.data());
    CHECK(y == std::vector<float>{1, 3, 5, 1, 3, 5});
    std::vector<float> gaps(9, 0);
    copyStrided(x.data(), 4, Shape{3, 2}, Shape{2, 1}, Shape{3, 1}, gaps.data());
    CHECK(gaps == std::vector<float>{1, 2, 0, 3, 4, 0, 5, 6, 0});
}

TEST_CASE("gather along an axis") {
    const std::vector<std::int32_t> x = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};  // [2, 3, 2]
    const std::vector<std::int64_t> indices = {2, 0, -1, -3};
    std::vector<std::int32_t> y(16);
    gather(Gather{x.data(), 2, 3, 8, indices, y.data()});
    CHECK(y == std::vector<std::int32_t>{4, 5, 0, 1, 4, 5, 0, 1, 10, 11, 6, 7, 10, 11, 6, 7});
    const std::vector<std::int64_t> wrong = {0, 3};
    CHECK_THROWS_WITH(gather(Gather{x.data(), 2, 3, 8, wrong, y.data()}), Catch::Contains("3"));
    CHECK(y[0] == 4);
}

TEST_CASE("every reduction over every set of axes") {
    Restore restore;
    for (const Shape& shape : {Shape{2, 3, 4, 5}, Shape{3, 1, 40}, Shape{70, 33}, Shape{7}, Shape{2, 1000}}) {
        const std::vector<float> x = randomFloats(count(shape), "x");
        for (int set = 0; set < 1 << shape.size(); ++set) {
            std::vector<std::uint8_t> reduced;
            Shape kept;
            for (std::size_t d = 0; d < shape.size(); ++d) {
                reduced.push_back(set >> d & 1);
                if (!reduced.back()) kept.push_back(shape[d]);
            }
            std::vector<std::vector<double>> groups(static_cast<std::size_t>(count(kept)));
            for (std::int64_t flat = 0; flat < count(shape); ++flat) {
                std::int64_t rest = flat;
                std::int64_t target = 0;
                std::int64_t stride = 1;
                for (std::size_t d = shape.size(); d-- > 0;) {
                    if (!reduced[d]) {
                        target += rest % shape[d] * stride;
                        stride *= shape[d];
                    }
                    rest /= shape[d];
                }
                groups[target].push_back(x[flat]);
            }
            const auto check = [&](ReduceOp op, auto truth) {
                std::vector<float> y(groups.size());
                for (const int threads : {1, 3}) {
                    setThreadCount(threads);
                    reduce(op, x.data(), shape, reduced, y.data());
                    for (std::size_t i = 0; i < groups.size(); ++i)
                        REQUIRE(y[i] == Approx(truth(groups[i])).epsilon(1e-5).margin(2e-5));
                }
            };
            const auto sum = [](const std::vector<double>& g, auto f) {
                double total = 0;
                for (const double v : g) total += f(v);
                return total;
            };
            check(ReduceOp::sum, [&](const auto& g) { return sum(g, [](double v) { return v; }); });
            check(ReduceOp::mean, [&](const auto& g) {
                return sum(g, [](double v) { return v; }) / static_cast<double>(g.size());
            });
            check(ReduceOp::max, [](const auto& g) { return *std::max_element(g.begin(), g.end()); });
            check(ReduceOp::min, [](const auto& g) { return *std::min_element(g.begin(), g.end()); });
            check(ReduceOp::l1, [&](const auto& g) { return sum(g, [](double v) { return std::abs(v); }); });
            check(ReduceOp::l2,
                  [&](const auto& g) { return std::sqrt(sum(g, [](double v) { return v * v; })); });
            check(ReduceOp::sumSquare, [&](const auto& g) { return sum(g, [](double v) { return v * v; }); });
            check(ReduceOp::logSumExp,
                  [&](const auto& g) { return std::log(sum(g, [](double v) { return std::exp(v); })); });
            if (shape == Shape{2, 3, 4, 5})
                check(ReduceOp::product, [](const auto& g) {
                    double p = 1;
                    for (const double v : g) p *= v;
                    return p;
                });
        }
    }
}

TEST_CASE("reductions of integers, of nothing, and of NaN") {
    const std::vector<std::int64_t> x = {5, -2, 7, 1};
    std::vector<std::int64_t> y(2);
    reduce(ReduceOp::mean, x.data(), Shape{2, 2}, std::vector<std::uint8_t>{0, 1}, y.data());
    CHECK(y == std::vector<std::int64_t>{1, 4});
    reduce(ReduceOp::max, x.data(), Shape{2, 2}, std::vector<std::uint8_t>{1, 0}, y.data());
    CHECK(y == std::vector<std::int64_t>{7, 1});
    std::vector<float> empty(2, 9);
    reduce<float>(ReduceOp::sum, nullptr, Shape{2, 0}, std::vector<std::uint8_t>{0, 1}, empty.data());
    CHECK(empty == std::vector<float>{0, 0});
    reduce<float>(ReduceOp::max, nullptr, Shape{2, 0}, std::vector<std::uint8_t>{0, 1}, empty.data());
    CHECK(empty[0] == -INFINITY);
    std::vector<float> nan(20, 1);
    nan[3] = NAN;
    float result = 0;
    reduce(ReduceOp::max, nan.data(), Shape{20}, std::vector<std::uint8_t>{1}, &result);
    CHECK(std::isnan(result));
}

TEST_CASE("index of the extreme, ties from either side") {
    const std::vector<float> x = {1, 5, 5, 0, 2, 2, 9, 9};  // [2, 4, 1] and [1, 4, 2]
    std::vector<std::int64_t> y(2);
    argReduce(ArgOp::max, Tie::first, x.data(), 2, 4, 1, y.data());
    CHECK(y == std::vector<std::int64_t>{1, 2});
    argReduce(ArgOp::max, Tie::last, x.data(), 2, 4, 1, y.data());
    CHECK(y == std::vector<std::int64_t>{2, 3});
    argReduce(ArgOp::min, Tie::first, x.data(), 1, 4, 2, y.data());
    CHECK(y == std::vector<std::int64_t>{0, 1});
}

TEST_CASE("differences: cosine, SQNR, largest error, on any number of threads") {
    Restore restore;
    const std::vector<float> a = randomFloats(200003, "a");
    std::vector<float> b = a;
    for (std::size_t i = 0; i < b.size(); ++i) b[i] += (i % 2 ? 0.01F : -0.01F);
    b[777] += 1.0F;
    const Difference d = difference(a, b);
    double dot = 0, aa = 0, bb = 0, ee = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        dot += static_cast<double>(a[i]) * b[i];
        aa += static_cast<double>(a[i]) * a[i];
        bb += static_cast<double>(b[i]) * b[i];
        ee += std::pow(static_cast<double>(a[i]) - b[i], 2);
    }
    CHECK(d.count == 200003);
    CHECK(d.cosine() == Approx(dot / std::sqrt(aa * bb)).epsilon(1e-12));
    CHECK(d.sqnrDb() == Approx(10 * std::log10(aa / ee)).epsilon(1e-12));
    CHECK(d.maxAbsError == Approx(1.01).epsilon(1e-3));
    for (const int threads : {1, 3, 8}) {
        setThreadCount(threads);
        const Difference again = difference(a, b);
        CHECK(again.dot == d.dot);
        CHECK(again.squareError == d.squareError);
    }
    CHECK(difference(a, a).sqnrDb() == INFINITY);
    const std::vector<float> zeros(5, 0.0F);
    CHECK(cosine(zeros, zeros) == 1.0);
    CHECK(cosine(zeros, std::vector<float>(5, 1.0F)) == 0.0);
    CHECK(std::isnan(difference(zeros, std::vector<float>{0, NAN, 0, 0, 0}).maxAbsError));
    CHECK(difference(std::vector<float>{INFINITY}, std::vector<float>{INFINITY}).maxAbsError == 0);
}
