// Errors of float32 products with weights in blocks of 8-bit codes, against the same product in float64.
//   coded_error_bench [K]
// One line a kind of activations and size of block: the largest error of 16 rows (as many use the kernel of many
// rows) and 4096 columns, divided by the range (largest less smallest) of its row; and what rounding the activations
// to 16 and 8 bits, with a scale for each 32 of them, would do alone.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <utility>
#include <vector>

#include "kernels/matmul_coded.h"
#include "kernels/packed_codes.h"
#include "lib/support/random.h"

namespace {

using namespace tcompress;

struct Weights {
    std::vector<std::int8_t> codes;  ///< [column][k]
    std::vector<float> scales;       ///< [block][column]
};

Weights randomWeights(std::int64_t k, std::int64_t n, std::int64_t block) {
    Random random(1, "weights");
    Weights weights;
    for (std::int64_t i = 0; i < k * n; ++i)
        weights.codes.push_back(static_cast<std::int8_t>(std::clamp(std::lround(40 * random.normal()), -127L, 127L)));
    for (std::int64_t i = 0; i < (k + block - 1) / block * n; ++i)
        weights.scales.push_back(static_cast<float>(0.01 + 0.01 * random.uniform()));
    return weights;
}

constexpr std::int64_t kRows = 16, kColumns = 4096;

/// In float64: [row][column].
std::vector<double> exactProduct(const std::vector<float>& a, const Weights& weights, std::int64_t k, std::int64_t block) {
    std::vector<double> c;
    for (std::int64_t row = 0; row < kRows; ++row)
        for (std::int64_t column = 0; column < kColumns; ++column) {
            double sum = 0;
            for (std::int64_t i = 0; i < k; ++i)
                sum += static_cast<double>(weights.codes[static_cast<std::size_t>(column * k + i)]) *
                       weights.scales[static_cast<std::size_t>(i / block * kColumns + column)] *
                       a[static_cast<std::size_t>(row * k + i)];
            c.push_back(sum);
        }
    return c;
}

std::vector<double> kernelProduct(const std::vector<float>& a, const Weights& weights, std::int64_t k, std::int64_t block) {
    const std::vector<float> zero = {128.0F};  // of codes whose sign bit is flipped: 0
    kernels::CodedMatrix matrix;
    matrix.k = k;
    matrix.n = kColumns;
    matrix.bits = 8;
    matrix.block = block;
    matrix.codes = reinterpret_cast<const std::byte*>(weights.codes.data());
    matrix.stored = kernels::StoredCodes::twosComplement;
    matrix.rowStride = 1;
    matrix.columnStride = k;
    matrix.scales = weights.scales;
    matrix.zeroPoints = zero;
    matrix.scaleBlockStride = kColumns;
    const kernels::PackedCodesPtr packed = kernels::packCodes(matrix);

    std::vector<float> c(kRows * kColumns);
    kernels::CodedMatmul product;
    product.a = a.data();
    product.aStride = k;
    product.m = kRows;
    product.weights = packed.get();
    product.c = c.data();
    product.cStride = kColumns;
    kernels::matmul(product);
    return {c.begin(), c.end()};
}

/// `a` in integers of so many bits with a scale for each 32 of k.
std::vector<float> rounded(std::vector<float> a, int bits) {
    constexpr std::size_t kBlock = 32;
    const float most = static_cast<float>((1 << (bits - 1)) - 1);
    for (std::size_t begin = 0; begin < a.size(); begin += kBlock) {
        const std::size_t end = std::min(a.size(), begin + kBlock);
        float largest = 0;
        for (std::size_t i = begin; i < end; ++i) largest = std::max(largest, std::abs(a[i]));
        for (std::size_t i = begin; i < end && largest > 0; ++i) a[i] = std::round(a[i] / largest * most) * largest / most;
    }
    return a;
}

double largestError(const std::vector<double>& c, const std::vector<double>& exact) {
    double worst = 0;
    for (auto row = exact.begin(); row != exact.end(); row += kColumns) {
        double error = 0;
        for (auto value = row; value != row + kColumns; ++value)
            error = std::max(error, std::abs(c[static_cast<std::size_t>(value - exact.begin())] - *value));
        const auto [smallest, largest] = std::minmax_element(row, row + kColumns);
        worst = std::max(worst, error / (*largest - *smallest));
    }
    return worst;
}

}  // namespace

int main(int argc, char** argv) {
    const std::int64_t k = argc > 1 ? std::atoll(argv[1]) : 4096;
    const std::vector<std::pair<const char*, std::function<double(std::int64_t)>>> kinds = {
        {"normal", [](std::int64_t) { return 1.0; }},
        {"six channels × 60", [k](std::int64_t i) { return i % (k / 6) == 7 ? 60.0 : 1.0; }},
        {"64 neighbours × 1000", [](std::int64_t i) { return i < 64 ? 1000.0 : 1.0; }},
    };
    for (const auto& [name, size] : kinds) {
        Random random(2, "activations");
        std::vector<float> a;
        for (std::int64_t i = 0; i < kRows * k; ++i) a.push_back(static_cast<float>(size(i % k) * random.normal()));
        for (const std::int64_t block : {std::int64_t{32}, std::int64_t{128}, k}) {
            const Weights weights = randomWeights(k, kColumns, block);
            const std::vector<double> exact = exactProduct(a, weights, k, block);
            fmt::print("{:<20} blocks of {:<4} {:.1e}", name, block, largestError(kernelProduct(a, weights, k, block), exact));
            if (block == 32)
                for (const int bits : {16, 8})
                    fmt::print("   activations of {} bits: {:.1e}", bits,
                               largestError(exactProduct(rounded(a, bits), weights, k, block), exact));
            fmt::print("\n");
        }
    }
}
