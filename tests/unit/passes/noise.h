#pragma once
// Matrices of random values in double and moments of random rows, for tests of solvers.

#include <cstdint>
#include <vector>

#include "kernels/gram.h"
#include "lib/support/random.h"
#include "tests/unit/passes/weight_models.h"

namespace tcompress::test {

inline std::vector<double> noise(std::int64_t count, std::uint64_t seed, double deviation = 1.0) {
    const Tensor tensor = randomTensor({count}, seed, deviation);
    const auto values = tensor.data<float>();
    return {values.begin(), values.end()};
}

/// XᵀX of correlated rows: neighbours move together and channels differ in size.
inline std::vector<double> correlatedMoment(std::int64_t n, std::int64_t rows, std::uint64_t seed) {
    Random random(seed, "activations");
    std::vector<float> x(static_cast<std::size_t>(n * rows));
    for (std::int64_t row = 0; row < rows; ++row) {
        double carried = 0;
        for (std::int64_t i = 0; i < n; ++i) {
            carried = 0.8 * carried + random.normal();
            x[static_cast<std::size_t>(row * n + i)] =
                static_cast<float>(carried * (0.2 + static_cast<double>(i * 7 % n) / static_cast<double>(n)));
        }
    }
    std::vector<double> gram(static_cast<std::size_t>(n * n), 0.0);
    kernels::accumulateGram(x, rows, n, gram);
    return gram;
}

}  // namespace tcompress::test
