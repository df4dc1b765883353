#include "kernels/compare.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/multiversion.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kChunk = 65536;

TCOMPRESS_MULTIVERSION void differenceOf(const float* a, const float* b, std::int64_t count,
                                         Difference* result) {
    // Eight sums a quantity: one would wait for each addition to finish.
    constexpr int kSums = 8;
    double dot[kSums] = {}, squareA[kSums] = {}, squareB[kSums] = {}, squareError[kSums] = {};
    double maxError[kSums] = {}, maxA[kSums] = {};
    const auto step = [&](std::int64_t i, int s) __attribute__((always_inline)) {
        const double x = a[i];
        const double y = b[i];
        const double error = x == y ? 0.0 : x - y;  // equal infinities are equal
        dot[s] += x * y;
        squareA[s] += x * x;
        squareB[s] += y * y;
        squareError[s] += error * error;
        maxError[s] = std::abs(error) > maxError[s] ? std::abs(error) : maxError[s];
        maxA[s] = std::abs(x) > maxA[s] ? std::abs(x) : maxA[s];
    };
    std::int64_t i = 0;
    for (; i + kSums <= count; i += kSums)
        for (int s = 0; s < kSums; ++s) step(i + s, s);
    for (; i < count; ++i) step(i, 0);
    for (int s = 0; s < kSums; ++s) {
        result->dot += dot[s];
        result->squareA += squareA[s];
        result->squareB += squareB[s];
        result->squareError += squareError[s];
        result->maxAbsError = std::max(result->maxAbsError, maxError[s]);
        result->maxAbsA = std::max(result->maxAbsA, maxA[s]);
    }
    result->count = count;
    // The comparisons above pass NaN by; the sum does not.
    if (std::isnan(result->squareError)) result->maxAbsError = std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

Difference& Difference::operator+=(const Difference& other) {
    count += other.count;
    dot += other.dot;
    squareA += other.squareA;
    squareB += other.squareB;
    squareError += other.squareError;
    if (std::isnan(other.maxAbsError) || other.maxAbsError > maxAbsError) maxAbsError = other.maxAbsError;
    maxAbsA = std::max(maxAbsA, other.maxAbsA);
    return *this;
}

double Difference::cosine() const {
    if (squareA == 0 && squareB == 0) return 1.0;
    if (squareA == 0 || squareB == 0) return 0.0;
    return std::clamp(dot / (std::sqrt(squareA) * std::sqrt(squareB)), -1.0, 1.0);
}

double Difference::sqnrDb() const {
    if (squareError == 0) return std::numeric_limits<double>::infinity();
    return 10.0 * std::log10(squareA / squareError);
}

double Difference::meanSquareError() const {
    return count == 0 ? 0.0 : squareError / static_cast<double>(count);
}

Difference difference(std::span<const float> a, std::span<const float> b) {
    TCOMPRESS_CHECK(a.size() == b.size(), "difference: sizes differ");
    const auto size = static_cast<std::int64_t>(a.size());
    std::vector<Difference> parts(static_cast<std::size_t>((size + kChunk - 1) / kChunk));
    parallelRanges(size, kChunk, [&](std::int64_t begin, std::int64_t end) {
        differenceOf(a.data() + begin, b.data() + begin, end - begin,
                     &parts[static_cast<std::size_t>(begin / kChunk)]);
    });
    Difference total;
    for (const Difference& part : parts) total += part;
    return total;
}

double cosine(std::span<const float> a, std::span<const float> b) { return difference(a, b).cosine(); }

}  // namespace tcompress::kernels
