// Speed of gathering second moments next to that of the matrix product the executor runs, in turns.
//   gram_bench [THREADS]
// One line a shape: GFLOP/s of a packed product [rows, n] · [n, n], of XᵀX and XᵀY (2 · rows · n² operations
// each, although XᵀX needs half of them), their ratios, and GB/s of a histogram of X. Times are the best of
// many short runs.

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <vector>

#include "kernels/gram.h"
#include "kernels/histogram.h"
#include "kernels/matmul.h"
#include "lib/support/parallel.h"
#include "lib/support/random.h"

namespace {

using namespace tcompress;

double secondsOf(const std::function<void()>& run) {
    const auto start = std::chrono::steady_clock::now();
    run();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int argc, char** argv) {
    setThreadCount(argc > 1 ? std::atoi(argv[1]) : 0);
    fmt::print("{} threads\n{:>6} {:>6} {:>9} {:>9} {:>9} {:>8} {:>8} {:>11}\n", threadCount(), "rows", "n",
               "product", "gram", "cross", "gram", "cross", "histogram");
    for (const std::int64_t n : {384, 768, 1536, 3072})
        for (const std::int64_t rows : {350, 1024}) {
            Random random(1, "bench");
            const auto matrix = [&](std::int64_t elements) {
                std::vector<float> values(static_cast<std::size_t>(elements));
                for (float& value : values) value = static_cast<float>(random.normal());
                return values;
            };
            const std::vector<float> x = matrix(rows * n), weights = matrix(n * n);
            std::vector<float> y(x.size());
            std::vector<double> sums(weights.size());
            std::vector<std::uint64_t> counts(4096);
            const kernels::PackedWeightsPtr packed = kernels::packWeights(weights.data(), n, n);
            kernels::PackedMatmul product;
            product.a = x.data();
            product.aStride = product.cStride = n;
            product.m = rows;
            product.weights = packed.get();
            product.c = y.data();
            const std::vector<std::function<void()>> runs{
                [&] { kernels::matmul(product); },
                [&] { kernels::accumulateGram(x, rows, n, sums); },
                [&] { kernels::accumulateCross(x, x, rows, n, n, sums); },
                [&] {
                    kernels::countCells({x, -8, -2048, counts});
                },
            };
            std::vector<double> best(runs.size(), 1e30);
            constexpr int kRounds = 7;
            for (int round = 0; round < kRounds; ++round)
                for (std::size_t i = 0; i < runs.size(); ++i) best[i] = std::min(best[i], secondsOf(runs[i]));
            const double operations = 2.0 * static_cast<double>(rows) * static_cast<double>(n * n) / 1e9;
            fmt::print("{:>6} {:>6} {:>9.0f} {:>9.0f} {:>9.0f} {:>8.2f} {:>8.2f} {:>6.1f} GB/s\n", rows, n,
                       operations / best[0], operations / best[1], operations / best[2], best[0] / best[1],
                       best[0] / best[2], static_cast<double>(x.size() * sizeof(float)) / 1e9 / best[3]);
        }
}
