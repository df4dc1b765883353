#include "kernels/matmul_coded.h"

#include <catch2/catch.hpp>

#include "kernels/native/coded_kernel.h"
#include "kernels/native/digits.h"
#include "kernels/packed_codes.h"
#include "tests/unit/kernels/kernel_test_support.h"

using namespace tcompress;
using namespace tcompress::kernels;
using namespace tcompress::kernels::test;

namespace {

struct Stored {
    std::vector<std::uint8_t> codes;
    std::vector<float> scales, zeros;
    CodedMatrix matrix;
};

enum class Zeros { one, each };
enum class Order { rowMajor, columnMajor };

Stored stored(std::int64_t k, std::int64_t n, int bits, std::int64_t block, Zeros zeros, Order order) {
    Random random(3, "codes");
    Stored s;
    for (std::int64_t i = 0; i < k * n; ++i)
        s.codes.push_back(static_cast<std::uint8_t>(random.below(1ULL << bits)));
    const std::int64_t blocks = (k + block - 1) / block;
    for (std::int64_t i = 0; i < blocks * n; ++i) {
        s.scales.push_back(static_cast<float>(0.01 + 0.02 * random.uniform()));
        s.zeros.push_back(static_cast<float>(random.below(1ULL << bits)));
    }
    if (zeros == Zeros::one) s.zeros = {static_cast<float>((1 << (bits - 1)) - 1)};
    s.matrix = {k,
                n,
                bits,
                block,
                s.codes.data(),
                order == Order::rowMajor ? n : 1,
                order == Order::rowMajor ? 1 : k,
                s.scales,
                s.zeros};
    return s;
}

double weight(const CodedMatrix& m, std::int64_t k, std::int64_t n) {
    const auto place = static_cast<std::size_t>(k / m.block * m.n + n);
    return (m.codes[k * m.rowStride + n * m.columnStride] -
            static_cast<double>(m.zeroPoints[m.zeroPoints.size() == 1 ? 0 : place])) *
           m.scales[place];
}

}  // namespace

TEST_CASE("packed codes hold the matrix, whatever its order, block and bits") {
    for (const int bits : {2, 4, 8})
        for (const std::int64_t block : {16, 32, 48, 1000})
            for (const Zeros zeros : {Zeros::one, Zeros::each})
                for (const Order order : {Order::rowMajor, Order::columnMajor}) {
                    const Stored s = stored(block == 48 ? 96 : 69, 45, bits, block, zeros, order);
                    const PackedCodesPtr packed = packCodes(s.matrix);
                    REQUIRE(rows(*packed) == s.matrix.k);
                    REQUIRE(columns(*packed) == 45);
                    std::int64_t wrong = 0;
                    for (std::int64_t k = 0; k < s.matrix.k; ++k)
                        for (std::int64_t n = 0; n < 45; ++n)
                            if (packed->value(k, n) != static_cast<float>(weight(s.matrix, k, n))) ++wrong;
                    INFO(bits << " bits, blocks of " << block);
                    REQUIRE(wrong == 0);
                }
    // Columns that are unpacked when they are needed.
    const Stored s = stored(69, 45, 4, 32, Zeros::one, Order::columnMajor);
    CodedMatrix onDemand = s.matrix;
    onDemand.codes = nullptr;
    onDemand.columnStride = 80;
    onDemand.unpack = [&](std::int64_t first, std::int64_t columns, std::uint8_t* target) {
        for (std::int64_t column = 0; column < columns; ++column)
            std::copy_n(s.codes.data() + (first + column) * 69, 69, target + column * 80);
    };
    const PackedCodesPtr whole = packCodes(s.matrix), parts = packCodes(onDemand);
    for (std::int64_t k = 0; k < 69; ++k)
        for (std::int64_t n = 0; n < 45; ++n) REQUIRE(parts->value(k, n) == whole->value(k, n));
    CHECK(refuseCodes(3, 32, 64));
    CHECK(refuseCodes(4, 12, 64));
    CHECK_FALSE(refuseCodes(4, 70, 70));
}

TEST_CASE("products with coded weights: few rows, many rows, with an epilogue, on any number of threads") {
    Restore restore;
    for (const int bits : {2, 4, 8})
        for (const std::int64_t m : {1, 2, 3, 4, 7, 16, 17, 40, 530})
            for (const std::int64_t k : {1, 37, 256, 600})
                for (const std::int64_t n : {1, 33, 100}) {
                    if (m == 530 && (k == 37 || n != 33)) continue;
                    const Zeros zeros = (m + n) % 2 ? Zeros::one : Zeros::each;
                    const std::int64_t block = k == 600 ? 304 : k == 256 ? 32 : k;
                    const Stored s = stored(k, n, bits, block, zeros, Order::columnMajor);
                    const PackedCodesPtr packed = packCodes(s.matrix);
                    const auto a = paddedMatrix(m, k, k + 3, "a");
                    const auto bias = randomFloats(n, "bias");
                    const auto residual = randomFloats(m * n, "residual");
                    CodedMatmul params;
                    params.a = a.data();
                    params.aStride = k + 3;
                    params.m = m;
                    params.weights = packed.get();
                    params.cStride = n + 1;
                    if (m % 2)
                        params.epilogue = {0.5F, bias.data(), m % 3 ? Activation::geluErf : Activation::none,
                                           residual.data(), n};
                    std::vector<float> c(static_cast<std::size_t>(m * (n + 1)), 9.0F);
                    params.c = c.data();
                    matmul(params);
                    std::vector<float> reference(c.size(), 9.0F);
                    setKernelChoice(KernelChoice::reference);
                    params.c = reference.data();
                    matmul(params);
                    setKernelChoice(KernelChoice::fastest);
                    INFO(bits << " bits, " << m << " × " << k << " × " << n);
                    double worst = 0;
                    for (std::int64_t i = 0; i < m; ++i) {
                        REQUIRE(c[i * (n + 1) + n] == 9.0F);
                        for (std::int64_t j = 0; j < n; ++j) {
                            double magnitude = 1;
                            for (std::int64_t l = 0; l < k; ++l)
                                magnitude += std::abs(weight(s.matrix, l, j) * a[i * (k + 3) + l]);
                            worst = std::max(worst, std::abs(static_cast<double>(c[i * (n + 1) + j]) -
                                                             reference[i * (n + 1) + j]) /
                                                        magnitude);
                        }
                    }
                    REQUIRE(worst < 2e-6);
                    for (const int threads : {2, 3}) {
                        setThreadCount(threads);
                        std::vector<float> again(c.size(), 9.0F);
                        params.c = again.data();
                        matmul(params);
                        REQUIRE(sameBits(c, again));
                    }
                    setThreadCount(0);
                }
}

TEST_CASE("three digits hold a row as well as float32 does") {
    const std::int64_t k = 500, stride = 512, block = 300, segment = 256;
    auto a = randomFloats(2 * k, "a", 1e3);
    a[3] = 1e6F;  // the largest of its segment
    for (std::int64_t i = 300; i < 500; ++i) a[i] = 0;
    std::vector<std::int8_t> digits(3 * 2 * stride, 77);
    std::vector<float> units(8), sums(8);
    DigitRows rows{a.data(),
                   k,
                   2,
                   k,
                   block,
                   segment,
                   {digits.data(), digits.data() + 2 * stride, digits.data() + 4 * stride},
                   stride,
                   units.data(),
                   sums.data()};
    REQUIRE(splitIntoDigits(rows) == Split::done);
    for (std::int64_t row = 0; row < 2; ++row) {
        std::vector<double> largest(4), total(4);
        const auto segmentOf = [&](std::int64_t i) { return i / block * 2 + i % block / segment; };
        for (std::int64_t i = 0; i < k; ++i) {
            largest[segmentOf(i)] = std::max<double>(largest[segmentOf(i)], std::abs(a[row * k + i]));
            total[segmentOf(i)] += a[row * k + i];
        }
        for (std::int64_t i = 0; i < stride; ++i) {
            const std::int8_t* d = digits.data() + row * stride + i;
            const double number = d[0] + 256.0 * d[2 * stride] + 65536.0 * d[4 * stride];
            if (i >= k) {
                REQUIRE(number == 0);
                continue;
            }
            const double value = number * units[row * 4 + segmentOf(i)];
            REQUIRE(std::abs(value - a[row * k + i]) <= largest[segmentOf(i)] * 0x1p-22);
        }
        for (std::int64_t s = 0; s < 4; ++s) CHECK(sums[row * 4 + s] == Approx(total[s]).margin(1));
    }
    a[7] = INFINITY;
    CHECK(splitIntoDigits(rows) == Split::notFinite);
}

TEST_CASE("infinities go through products with coded weights as through any other") {
    const Stored s = stored(64, 33, 4, 32, Zeros::one, Order::rowMajor);
    const PackedCodesPtr packed = packCodes(s.matrix);
    std::vector<float> a(64, 1.0F), c(33);
    a[5] = INFINITY;
    CodedMatmul params{a.data(), 64, 1, packed.get(), c.data(), 33, {}};
    matmul(params);
    for (float value : c) CHECK_FALSE(std::isfinite(value));
}

TEST_CASE("every instruction set decodes and multiplies the same codes") {
    std::vector<const CodedKernels*> sets{&codedKernelsBaseline()};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("x86-64-v3")) sets.push_back(&codedKernelsAvx2());
    if (__builtin_cpu_supports("x86-64-v4"))
        sets.push_back(&codedKernelsAvx512());  // VNNI's differ by digits alone
#endif
    for (const int bits : {2, 4, 8})
        for (std::int64_t count = 1; count <= CodedPanelTask::kMostRows; ++count) {
            const std::int64_t k = 96, block = 32;
            const Stored s = stored(k, kPanelColumns, bits, block, Zeros::each, Order::rowMajor);
            const PackedCodesPtr packed = packCodes(s.matrix);
            const auto a = randomFloats(count * k, "a");
            std::vector<float> sums;
            for (std::int64_t row = 0; row < count; ++row)
                for (std::int64_t b = 0; b < k / block; ++b) {
                    float sum = 0;
                    for (std::int64_t i = 0; i < block; ++i) sum += a[row * k + b * block + i];
                    sums.push_back(sum);
                }
            for (const CodedKernels* set : sets) {
                std::vector<float> decoded(k * kPanelColumns), c(count * kPanelColumns);
                const std::int64_t groups = packed->groups(), perBlock = block / packed->codesPerWord();
                set->decode[codedKernelIndex(bits)]({packed->panel(0), packed->panelScales(0),
                                                     packed->panelZeros(0), 0, groups, perBlock,
                                                     decoded.data()});
                for (std::int64_t i = 0; i < k; ++i)
                    for (std::int64_t n = 0; n < kPanelColumns; ++n)
                        REQUIRE(decoded[i * kPanelColumns + n] == packed->value(i, n));
                set->multiply[codedKernelIndex(bits)]({a.data(), k, count, sums.data(), packed->panel(0),
                                                       packed->panelScales(0), packed->panelZeros(0), 0,
                                                       groups, perBlock, k / block, c.data()});
                for (std::int64_t row = 0; row < count; ++row)
                    for (std::int64_t n = 0; n < kPanelColumns; ++n) {
                        double expected = 0;
                        for (std::int64_t i = 0; i < k; ++i)
                            expected += static_cast<double>(a[row * k + i]) * packed->value(i, n);
                        REQUIRE(c[row * kPanelColumns + n] == Approx(expected).margin(1e-4));
                    }
            }
        }
}
