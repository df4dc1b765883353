#pragma once
// Random operands inside memory full of NaN, and the choice of kernels and threads put back after each test.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/table.h"
#include "lib/support/parallel.h"
#include "lib/support/random.h"

namespace tcompress::kernels::test {

struct Restore {
    ~Restore() {
        setThreadCount(0);
        setKernelChoice(KernelChoice::fastest);
    }
};

inline std::vector<float> randomFloats(std::int64_t count, const char* name, double scale = 1.0) {
    Random random(11, name);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = static_cast<float>(random.normal() * scale);
    return values;
}

/// rows × columns of random numbers, `stride` apart; what lies between is NaN, so reading it shows.
inline std::vector<float> paddedMatrix(std::int64_t rows, std::int64_t columns, std::int64_t stride,
                                       const char* name) {
    Random random(12, name);
    std::vector<float> values(static_cast<std::size_t>(rows * stride),
                              std::numeric_limits<float>::quiet_NaN());
    for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t column = 0; column < columns; ++column)
            values[static_cast<std::size_t>(row * stride + column)] = static_cast<float>(random.normal());
    return values;
}

/// Largest |a − b|; infinite when one is NaN and the other is not.
inline double maxDifference(const std::vector<float>& a, const std::vector<float>& b) {
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (std::isnan(a[i]) && std::isnan(b[i])) continue;
        const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
        worst =
            std::isnan(difference) ? std::numeric_limits<double>::infinity() : std::max(worst, difference);
    }
    return worst;
}

inline bool sameBits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace tcompress::kernels::test
