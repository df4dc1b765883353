#include "kernels/gram.h"

#include <catch2/catch.hpp>

#include "tests/unit/kernels/kernel_test_support.h"

using namespace tcompress;
using namespace tcompress::kernels;
using namespace tcompress::kernels::test;

namespace {

std::vector<double> plainCross(const std::vector<float>& x, const std::vector<float>& y, std::int64_t rows,
                               std::int64_t n, std::int64_t m, double start) {
    std::vector<double> sums(static_cast<std::size_t>(n * m), start);
    for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = 0; j < m; ++j)
                sums[static_cast<std::size_t>(i * m + j)] +=
                    static_cast<double>(x[static_cast<std::size_t>(row * n + i)]) *
                    y[static_cast<std::size_t>(row * m + j)];
    return sums;
}

/// Products of a chunk of 512 rows are summed in float32: each addition rounds a sum of at most about `rows`
/// by ε, and the errors add up as a random walk does.
void checkClose(const std::vector<double>& found, const std::vector<double>& expected, std::int64_t rows) {
    REQUIRE(found.size() == expected.size());
    double worst = 0;
    for (std::size_t i = 0; i < found.size(); ++i) worst = std::max(worst, std::abs(found[i] - expected[i]));
    CHECK(worst <= 2 * 6e-8 * std::sqrt(512.0) * static_cast<double>(rows));
}

struct Shape {
    std::int64_t rows, n, m;
};

}  // namespace

TEST_CASE("gram and cross products add up as three loops do, for any number of threads") {
    Restore restore;
    for (const auto& [rows, n, m] : {Shape{0, 3, 2}, Shape{1, 1, 1}, Shape{3, 7, 5}, Shape{511, 31, 33},
                                     Shape{513, 257, 1}, Shape{1100, 37, 300}, Shape{40, 600, 255}}) {
        INFO(rows << " rows, " << n << " and " << m << " columns");
        const std::vector<float> x = randomFloats(rows * n, "x"), y = randomFloats(rows * m, "y");
        std::vector<double> gram(static_cast<std::size_t>(n * n), 2.0),
            cross(static_cast<std::size_t>(n * m), -1.0);
        setThreadCount(1);
        accumulateGram(x, rows, n, gram);
        accumulateCross(x, y, rows, n, m, cross);
        checkClose(gram, plainCross(x, x, rows, n, n, 2.0), rows);
        checkClose(cross, plainCross(x, y, rows, n, m, -1.0), rows);
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = 0; j < i; ++j)
                REQUIRE(gram[static_cast<std::size_t>(i * n + j)] ==
                        gram[static_cast<std::size_t>(j * n + i)]);
        for (const int threads : {2, 3, 8}) {
            setThreadCount(threads);
            std::vector<double> gramAgain(gram.size(), 2.0), crossAgain(cross.size(), -1.0);
            accumulateGram(x, rows, n, gramAgain);
            accumulateCross(x, y, rows, n, m, crossAgain);
            CHECK(gramAgain == gram);
            CHECK(crossAgain == cross);
        }
    }
}
