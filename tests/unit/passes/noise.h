#pragma once
// Matrices of random values in double, for tests of solvers.

#include <cstdint>
#include <vector>

#include "tests/unit/passes/weight_models.h"

namespace tcompress::test {

inline std::vector<double> noise(std::int64_t count, std::uint64_t seed, double deviation = 1.0) {
    const Tensor tensor = randomTensor({count}, seed, deviation);
    const auto values = tensor.data<float>();
    return {values.begin(), values.end()};
}

}  // namespace tcompress::test
