#include "kernels/matmul_coded.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "kernels/native/coded_panels.h"
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
    s.matrix.k = k;
    s.matrix.n = n;
    s.matrix.bits = bits;
    s.matrix.block = block;
    s.matrix.codes = reinterpret_cast<const std::byte*>(s.codes.data());
    s.matrix.rowStride = order == Order::rowMajor ? n : 1;
    s.matrix.columnStride = order == Order::rowMajor ? 1 : k;
    s.matrix.scales = s.scales;
    s.matrix.zeroPoints = s.zeros;
    s.matrix.scaleBlockStride = n;
    return s;
}

double weight(const CodedMatrix& m, std::int64_t k, std::int64_t n) {
    const auto place = static_cast<std::size_t>(k / m.block * m.n + n);
    return (static_cast<int>(m.codes[k * m.rowStride + n * m.columnStride]) -
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
    CHECK(refuseCodes(3, 32, 64));
    CHECK(refuseCodes(4, 12, 64));
    CHECK_FALSE(refuseCodes(4, 70, 70));
}

TEST_CASE("codes are packed from any place of their bytes, signed or not, and told when they are read") {
    for (const int bits : {2, 4, 8})
        for (const std::int64_t n : {45, 46})
            for (const Order order : {Order::rowMajor, Order::columnMajor})
                for (const StoredCodes form : {StoredCodes::plain, StoredCodes::twosComplement}) {
                    const Stored s = stored(131, n, bits, 32, Zeros::each, order);
                    // The same codes side by side, from the middle of nothing on: rows of 45 begin inside
                    // bytes.
                    std::vector<std::uint8_t> bytes((s.codes.size() * bits + 7) / 8);
                    const int flip = form == StoredCodes::twosComplement ? 1 << (bits - 1) : 0;
                    for (std::size_t i = 0; i < s.codes.size(); ++i)
                        bytes[i * bits / 8] |=
                            static_cast<std::uint8_t>((s.codes[i] ^ flip) << (i * bits % 8));
                    CodedMatrix dense = s.matrix;
                    dense.codes = reinterpret_cast<const std::byte*>(bytes.data());
                    dense.storedBits = bits;
                    dense.stored = form;
                    const PackedCodesPtr whole = packCodes(s.matrix), packed = packCodes(dense);
                    INFO(bits << " bits, " << n << " columns");
                    for (std::int64_t k = 0; k < 131; ++k)
                        for (std::int64_t column = 0; column < n; ++column)
                            REQUIRE(packed->value(k, column) == whole->value(k, column));
                }
    // 3 MiB are read in parts, each told once, in order.
    for (const Order order : {Order::rowMajor, Order::columnMajor}) {
        std::vector<std::uint8_t> codes(3 << 20, 1);
        const std::vector<float> scales(3072, 1.0F), zeros(1);
        Stored s = stored(1, 1, 8, 1, Zeros::one, order);
        CodedMatrix matrix = s.matrix;
        matrix.k = matrix.block = 1024;
        matrix.n = 3072;
        matrix.codes = reinterpret_cast<const std::byte*>(codes.data());
        matrix.rowStride = order == Order::rowMajor ? 3072 : 1;
        matrix.columnStride = order == Order::rowMajor ? 1 : 1024;
        matrix.scales = scales;
        const std::byte* end = matrix.codes;
        int parts = 0;
        matrix.consumed = [&](std::span<const std::byte> bytes) {
            CHECK(bytes.data() == end);
            end = bytes.data() + bytes.size();
            ++parts;
        };
        packCodes(matrix);
        CHECK(parts >= 2);
        CHECK(end <= matrix.codes + codes.size());
    }
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

TEST_CASE("digits hold a row as well as float32 does") {
    const auto form = GENERATE(DigitForm::three, DigitForm::two);
    const std::int64_t k = 498, groups = 128, block = 300, segment = 256;
    auto a = randomFloats(2 * k, "a", 1e3);
    a[3] = 1e6F;  // the largest of its segment
    for (std::int64_t i = 300; i < k; ++i) a[i] = 0;
    std::vector<std::int8_t> digits(2 * groups * kDigitGroupBytes, 77);
    std::vector<float> units(8), sums(8);
    const DigitRows rows{form,   a.data(),     k,          2, k, block, segment, digits.data(),
                         groups, units.data(), sums.data()};
    REQUIRE(splitIntoDigits(rows) == Split::done);
    const auto numberOf = [&](std::int64_t row, std::int64_t i) {
        const std::int8_t* group = digits.data() + (row * groups + i / kDigitGroup) * kDigitGroupBytes;
        const std::int64_t place = i % kDigitGroup;
        if (form == DigitForm::three)
            return group[place] + 256.0 * group[kDigitGroup + place] +
                   65536.0 * group[2 * kDigitGroup + place];
        const std::int64_t exchanged[] = {0, 2, 1, 3};
        std::int16_t high = 0;
        std::memcpy(&high, group + 2 * exchanged[place], sizeof high);
        return static_cast<std::uint8_t>(group[2 * kDigitGroup + place]) + 256.0 * high;
    };
    for (std::int64_t row = 0; row < 2; ++row) {
        std::vector<double> largest(4), total(4);
        const auto segmentOf = [&](std::int64_t i) { return i / block * 2 + i % block / segment; };
        for (std::int64_t i = 0; i < k; ++i) {
            largest[segmentOf(i)] = std::max<double>(largest[segmentOf(i)], std::abs(a[row * k + i]));
            total[segmentOf(i)] += a[row * k + i];
        }
        for (std::int64_t i = 0; i < groups * kDigitGroup; ++i) {
            const double number = numberOf(row, i);
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

TEST_CASE("the largest codes and numbers do not overflow the sums of digits") {
    // One block of 512: two segments of 256, the longest; all codes at an end of their range.
    for (const std::int64_t m : {1, 2, 9, 20})
        for (const std::uint8_t code : {0, 255}) {
            Stored s = stored(512, 33, 8, 512, Zeros::one, Order::rowMajor);
            std::fill(s.codes.begin(), s.codes.end(), code);
            s.zeros = {0.0F};
            s.matrix.zeroPoints = s.zeros;
            s.matrix.codes = reinterpret_cast<const std::byte*>(s.codes.data());
            const PackedCodesPtr packed = packCodes(s.matrix);
            for (const float x : {3.0F, -3.0F}) {
                const std::vector<float> a(static_cast<std::size_t>(m * 512), x);
                std::vector<float> c(static_cast<std::size_t>(m * 33));
                matmul({a.data(), 512, m, packed.get(), c.data(), 33, {}});
                for (std::int64_t i = 0; i < m * 33; ++i)
                    REQUIRE(c[i] == Approx(512.0 * x * code * s.scales[i % 33]).epsilon(1e-6).margin(1e-2));
            }
        }
}

TEST_CASE("instructions of AVX-VNNI and AVX-512 VNNI multiply digits alike") {
    std::vector<const CodedKernels*> sets;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512vnni"))
        sets.push_back(&codedKernelsAvx512Vnni());
    if (__builtin_cpu_supports("x86-64-v3") && __builtin_cpu_supports("avxvnni"))
        sets.push_back(&codedKernelsAvxVnni());
#endif
    for (const CodedKernels* set : sets)
        for (const int bits : {2, 4, 8})
            for (const Zeros zeros : {Zeros::one, Zeros::each})
                for (std::int64_t count = 1; count <= 8; ++count) {
                    const std::int64_t k = 96, block = 32;
                    const Stored s = stored(k, 3 * kPanelColumns, bits, block, zeros, Order::rowMajor);
                    const PackedCodesPtr packed = packCodes(s.matrix);
                    const auto a = randomFloats(count * k, "a");
                    std::vector<std::int8_t> digits(count * k * 3);
                    std::vector<float> units(count * 3), sums(count * 3);
                    std::vector<std::uint32_t> codes(k / kDigitGroup * kWidenedWords);
                    for (const DigitForm form : {DigitForm::three, DigitForm::two}) {
                        splitIntoDigits({form, a.data(), k, count, k, block, block, digits.data(),
                                         k / kDigitGroup, units.data(), sums.data()});
                        DigitPanelTask task;
                        task.panel = codedPanel(*packed, 0);
                        if (form == DigitForm::two) task.panel = widened(task.panel, bits, codes.data());
                        task.digits = digits.data();
                        task.digitStride = k * 3;
                        task.units = units.data();
                        task.segmentSums = sums.data();
                        task.segments = 3;
                        task.groupsPerSegment = task.panel.groupsPerBlock;
                        task.segmentsPerBlock = 1;
                        task.rows = count;
                        task.panels = form == DigitForm::two ? 1 : 3;  // a pair and one
                        std::vector<float> c(task.panels * count * kPanelColumns, 2.0F);
                        task.c = c.data();
                        (form == DigitForm::two ? set->addTwoDigits
                                                : set->addThreeDigits[codedKernelIndex(bits)])(task);
                        for (std::int64_t row = 0; row < count; ++row)
                            for (std::int64_t n = 0; n < task.panels * kPanelColumns; ++n) {
                                double expected = 2;
                                for (std::int64_t i = 0; i < k; ++i)
                                    expected += static_cast<double>(a[row * k + i]) * packed->value(i, n);
                                const std::int64_t place = n / kPanelColumns * count + row;
                                REQUIRE(c[place * kPanelColumns + n % kPanelColumns] ==
                                        Approx(expected).margin(2e-5));
                            }
                    }
                }
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
                const CodedPanel panel = codedPanel(*packed, 0);
                set->decode[codedKernelIndex(bits)]({panel, decoded.data()});
                for (std::int64_t i = 0; i < k; ++i)
                    for (std::int64_t n = 0; n < kPanelColumns; ++n)
                        REQUIRE(decoded[i * kPanelColumns + n] == packed->value(i, n));
                set->multiply[codedKernelIndex(bits)]({panel, a.data(), k, count, sums.data(), c.data()});
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
