#include "kernels/linalg.h"

#include <catch2/catch.hpp>
#include <numeric>

#include "lib/support/error.h"
#include "tests/unit/kernels/kernel_test_support.h"

using namespace tcompress;
using namespace tcompress::kernels;
using namespace tcompress::kernels::test;

namespace {

std::vector<double> randomDoubles(std::int64_t count, const char* name) {
    const std::vector<float> values = randomFloats(count, name);
    return {values.begin(), values.end()};
}

/// op(A)·op(B) by three loops; a(i, k) and b(k, j) are functions.
template <class A, class B>
std::vector<double> product(std::int64_t m, std::int64_t n, std::int64_t inner, A a, B b) {
    std::vector<double> c(static_cast<std::size_t>(m * n));
    for (std::int64_t i = 0; i < m; ++i)
        for (std::int64_t j = 0; j < n; ++j)
            for (std::int64_t k = 0; k < inner; ++k)
                c[static_cast<std::size_t>(i * n + j)] += a(i, k) * b(k, j);
    return c;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
    REQUIRE(a.size() == b.size());
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
    return worst;
}

std::vector<double> positiveDefinite(std::int64_t n) {
    const std::vector<double> x = randomDoubles(n * n, "spd");
    std::vector<double> a = product(
        n, n, n, [&](auto i, auto k) { return x[i * n + k]; }, [&](auto k, auto j) { return x[j * n + k]; });
    for (std::int64_t i = 0; i < n; ++i) a[static_cast<std::size_t>(i * n + i)] += 1.0;
    return a;
}

}  // namespace

TEST_CASE("svd rebuilds the matrix from orthonormal factors") {
    for (const auto& [m, n] :
         {std::pair<std::int64_t, std::int64_t>{1, 1}, {1, 5}, {5, 1}, {7, 3}, {3, 7}, {40, 33}}) {
        const std::vector<float> a = randomFloats(m * n, "a");
        const Svd f = svd(a, m, n);
        REQUIRE(f.r == std::min(m, n));
        const auto u = [&](std::int64_t i, std::int64_t k) { return static_cast<double>(f.u[i * f.r + k]); };
        const auto vt = [&](std::int64_t k, std::int64_t j) { return static_cast<double>(f.vt[k * n + j]); };
        const std::vector<double> rebuilt = product(
            m, n, f.r, [&](auto i, auto k) { return u(i, k) * f.s[k]; }, vt);
        CHECK(distance(rebuilt, {a.begin(), a.end()}) < 1e-5);
        std::vector<double> identity(static_cast<std::size_t>(f.r * f.r));
        for (std::int64_t i = 0; i < f.r; ++i) identity[static_cast<std::size_t>(i * f.r + i)] = 1;
        CHECK(distance(product(
                           f.r, f.r, m, [&](auto i, auto k) { return u(k, i); }, u),
                       identity) < 1e-6);
        CHECK(distance(product(f.r, f.r, n, vt, [&](auto k, auto j) { return vt(j, k); }), identity) < 1e-6);
        CHECK(std::is_sorted(f.s.rbegin(), f.s.rend()));
        for (std::int64_t j = 0; j < f.r; ++j) {
            double largest = 0;
            for (std::int64_t i = 0; i < m; ++i)
                if (std::abs(u(i, j)) > std::abs(largest)) largest = u(i, j);
            CHECK(largest > 0);
        }
        const std::vector<float> s = singularValues(a, m, n);
        for (std::size_t i = 0; i < s.size(); ++i) CHECK(s[i] == Approx(f.s[i]));
    }
}

TEST_CASE("linear algebra says where its input is not finite") {
    std::vector<float> a = randomFloats(12, "a");
    a[7] = std::numeric_limits<float>::quiet_NaN();
    CHECK_THROWS_WITH(svd(a, 3, 4), Catch::Contains("[1, 3]") && Catch::Contains("nan"));
}

TEST_CASE("cholesky, inverse and triangular solves") {
    for (const std::int64_t n : {1, 2, 7, 40, 300}) {  // the last in more than one square
        const std::vector<double> a = positiveDefinite(n);
        std::vector<double> l = a;
        cholesky(l, n);
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = i + 1; j < n; ++j) REQUIRE(l[i * n + j] == 0.0);
        CHECK(distance(product(
                           n, n, n, [&](auto i, auto k) { return l[i * n + k]; },
                           [&](auto k, auto j) { return l[j * n + k]; }),
                       a) < 1e-9);

        std::vector<double> inverse = a;
        invertPositiveDefinite(inverse, n);
        std::vector<double> identity(static_cast<std::size_t>(n * n));
        for (std::int64_t i = 0; i < n; ++i) identity[static_cast<std::size_t>(i * n + i)] = 1;
        CHECK(distance(product(
                           n, n, n, [&](auto i, auto k) { return a[i * n + k]; },
                           [&](auto k, auto j) { return inverse[k * n + j]; }),
                       identity) < 1e-8);

        std::vector<double> factor = a;
        choleskyOfInverse(factor, n);
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = i + 1; j < n; ++j) REQUIRE(factor[i * n + j] == 0.0);
        CHECK(distance(product(
                           n, n, n, [&](auto i, auto k) { return factor[i * n + k]; },
                           [&](auto k, auto j) { return factor[j * n + k]; }),
                       inverse) < 1e-8);

        const std::vector<double> b = randomDoubles(n * 3, "b");
        std::vector<double> x = b;
        solveTriangular(Triangle::lower, Transposition::no, l, n, x, 3);
        CHECK(distance(product(
                           n, 3, n, [&](auto i, auto k) { return l[i * n + k]; },
                           [&](auto k, auto j) { return x[k * 3 + j]; }),
                       b) < 1e-9);
        x = b;
        solveTriangular(Triangle::lower, Transposition::yes, l, n, x, 3);
        CHECK(distance(product(
                           n, 3, n, [&](auto i, auto k) { return l[k * n + i]; },
                           [&](auto k, auto j) { return x[k * 3 + j]; }),
                       b) < 1e-9);
    }
    std::vector<double> indefinite = {1, 2, 2, 1};
    CHECK_THROWS_WITH(cholesky(indefinite, 2), Catch::Contains("pivot 1"));
    std::vector<double> late = positiveDefinite(300);
    late[290 * 300 + 290] = -1;
    CHECK_THROWS_WITH(cholesky(late, 300), Catch::Contains("pivot 290"));
    std::vector<double> zeros(9);
    CHECK_THROWS_WITH(cholesky(zeros, 3), Catch::Contains("too few or all alike"));
    std::vector<double> b = {1, 1};
    CHECK_THROWS_WITH(
        solveTriangular(Triangle::upper, Transposition::no, std::vector<double>{1, 2, 0, 0}, 2, b, 1),
        Catch::Contains("[1, 1]"));
}

TEST_CASE("a matrix of lower rank has a factor as near to it as float32 products are") {
    const std::int64_t n = 300, rank = 40;
    const std::vector<double> x = randomDoubles(n * rank, "x");
    std::vector<double> a(static_cast<std::size_t>(n * n));
    for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < n; ++j)
            for (std::int64_t k = 0; k < rank; ++k) a[i * n + j] += x[i * rank + k] * x[j * rank + k];
    for (double& value : a) value = static_cast<float>(value);
    std::vector<double> l = a;
    cholesky(l, n);
    CHECK(std::all_of(l.begin(), l.end(), [](double value) { return std::isfinite(value); }));
    const double largest = *std::max_element(a.begin(), a.end());
    CHECK(distance(product(
                       n, n, n, [&](auto i, auto k) { return l[i * n + k]; },
                       [&](auto k, auto j) { return l[j * n + k]; }),
                   a) < 1.1e-6 * largest);
}

TEST_CASE("symmetric eigenvectors diagonalise") {
    const std::int64_t n = 25;
    const std::vector<double> a = positiveDefinite(n);
    const SymmetricEigen eigen = symmetricEigen(a, n);
    CHECK(std::is_sorted(eigen.values.begin(), eigen.values.end()));
    const std::vector<double> left = product(
        n, n, n, [&](auto i, auto k) { return a[i * n + k]; },
        [&](auto k, auto j) { return eigen.vectors[k * n + j]; });
    std::vector<double> right = eigen.vectors;
    for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < n; ++j) right[static_cast<std::size_t>(i * n + j)] *= eigen.values[j];
    CHECK(distance(left, right) < 1e-10 * 100);
}

TEST_CASE("least squares finds the coefficients and cuts what carries nothing") {
    const std::int64_t m = 30, n = 4;
    std::vector<double> a = randomDoubles(m * n, "a");
    for (std::int64_t i = 0; i < m; ++i) a[i * n + 3] = a[i * n];  // a repeated column
    const std::vector<double> b = product(
        m, 2, n, [&](auto i, auto k) { return a[i * n + k]; },
        [&](auto k, auto j) { return static_cast<double>(k == 3 ? 0 : k + 1 + 10 * j); });
    const std::vector<double> x = leastSquares(a, m, n, b, 2, 1e-10);
    CHECK(x[0] + x[6] == Approx(1.0));
    CHECK(x[0] == Approx(x[6]));  // smallest norm: shared evenly
    CHECK(x[2] == Approx(2.0));
    CHECK(x[5] == Approx(13.0));
}

TEST_CASE("products transpose, and are taken off") {
    const std::int64_t m = GENERATE(1, 3, 600), n = GENERATE(1, 5), inner = 4;
    CAPTURE(m, n);
    const std::vector<double> a = randomDoubles(m * inner, "a");
    const std::vector<double> b = randomDoubles(inner * n, "b");
    for (const auto ta : {Transposition::no, Transposition::yes})
        for (const auto tb : {Transposition::no, Transposition::yes}) {
            std::vector<double> c(static_cast<std::size_t>(m * n));
            gemm(ta, tb, m, n, inner, a, b, c);
            const std::vector<double> expected = product(
                m, n, inner,
                [&](auto i, auto k) { return ta == Transposition::yes ? a[k * m + i] : a[i * inner + k]; },
                [&](auto k, auto j) { return tb == Transposition::yes ? b[j * inner + k] : b[k * n + j]; });
            CHECK(distance(c, expected) < 1e-12);
            const std::vector<double> before = randomDoubles(m * n, "c");
            c = before;
            subtractProduct(ta, tb, m, n, inner, a, b, c);
            for (std::size_t i = 0; i < c.size(); ++i) c[i] = before[i] - c[i];
            CHECK(distance(c, expected) < 1e-12);
        }
}

TEST_CASE("a product over no dimension is zero, and takes nothing off") {
    const std::int64_t m = GENERATE(1, 3), n = GENERATE(1, 5);
    CAPTURE(m, n);
    const std::vector<double> none, before(static_cast<std::size_t>(m * n), 7.0);
    std::vector<double> c = before;
    subtractProduct(Transposition::no, Transposition::no, m, n, 0, none, none, c);
    CHECK(c == before);
    gemm(Transposition::no, Transposition::no, m, n, 0, none, none, c);
    CHECK(c == std::vector<double>(c.size(), 0.0));
}
