#include "kernels/matmul_coded.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "kernels/native/coded_panels.h"
#include "kernels/native/digits.h"
#include "kernels/packed_codes.h"
#include "lib/support/mapped_file.h"
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

TEST_CASE("codes are packed from any place of their bytes, signed or not") {
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
}

TEST_CASE(
    "codes of a mapped file, of more columns than are unpacked at a time, are packed as those in memory") {
    for (const int bits : {4, 8})
        for (const Order order : {Order::rowMajor, Order::columnMajor}) {
            // An odd number of 4-bit codes a row: every other row begins inside a byte.
            Stored s = stored(70, 1041, 8, 70, Zeros::one, order);
            s.matrix.bits = s.matrix.storedBits = bits;
            const auto file = MappedFile::spill(std::as_bytes(std::span(s.codes)));
            REQUIRE(file);
            CodedMatrix mapped = s.matrix;
            mapped.codes = file->bytes().data();
            const PackedCodesPtr expected = packCodes(s.matrix), found = packCodes(mapped);
            INFO(bits << " bits");
            for (std::int64_t k = 0; k < 70; ++k)
                for (std::int64_t column = 0; column < 1041; ++column) {
                    const std::int64_t place = k * s.matrix.rowStride + column * s.matrix.columnStride;
                    const int code = bits == 8
                                         ? s.codes[static_cast<std::size_t>(place)]
                                         : s.codes[static_cast<std::size_t>(place / 2)] >> place % 2 * 4 & 15;
                    const float value =
                        (static_cast<float>(code) - s.zeros[0]) * s.scales[static_cast<std::size_t>(column)];
                    REQUIRE(expected->value(k, column) == value);
                    REQUIRE(found->value(k, column) == value);
                }
        }
}

TEST_CASE("products with coded weights: few rows, many rows, with an epilogue, on any number of threads") {
    Restore restore;
    for (const int bits : {2, 4, 8})
        for (const std::int64_t m : {1, 2, 3, 4, 7, 16, 17, 40, 530})
            for (const std::int64_t k : {1, 37, 256, 600})
                for (const std::int64_t n : {1, 33, 64, 100}) {
                    if (m == 530 && (k == 37 || n != 33)) continue;
                    if (n == 64 && k != 600) continue;  // whole panels, whose sums wait in C
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

namespace {

/// Digits and their place.
struct SplitRows {
    DigitRows rows;
    std::vector<std::int8_t> digits;
    std::vector<float> units;
    std::vector<std::int32_t> sums, products;

    SplitRows(DigitRows given, std::int64_t padding = 0) : rows(given) {
        rows.groups = (rows.k + kDigitGroup - 1) / kDigitGroup + padding;
        digits.assign(rows.sizeBytes(), 77);
        rows.unitStride = rows.stretches();
        units.resize(rows.rows * rows.unitStride);
        sums.resize(rows.rows * rows.segments());
        products.resize(rows.strips() * rows.stripRows * rows.segments());
        rows.digits = digits.data();
        rows.units = units.data();
        rows.sums = sums.data();
        if (rows.form == DigitForm::two) rows.products = products.data();
    }
    std::int64_t number(std::int64_t row, std::int64_t i) const {
        std::int64_t begin = 0;
        while (i >= rows.partEnd(begin) && rows.partEnd(begin) < rows.k) begin = rows.partEnd(begin);
        const std::int8_t* group =
            rows.digitsOf(begin, row / rows.stripRows) +
            ((i - begin) / kDigitGroup * rows.stripRows + row % rows.stripRows) * kDigitGroupBytes;
        const std::int64_t place = i % kDigitGroup;
        if (rows.form == DigitForm::three)
            return group[place] + 256 * group[kDigitGroup + place] + 65536 * group[2 * kDigitGroup + place];
        const std::int64_t exchanged[] = {0, 2, 1, 3};
        std::int16_t high = 0;
        std::memcpy(&high, group + 2 * exchanged[place], sizeof high);
        return static_cast<std::uint8_t>(group[2 * kDigitGroup + place]) + 256 * high;
    }
};

/// Normally distributed rows; in every second one six of the channels are 60 times as large.
std::vector<float> activations(std::int64_t m, std::int64_t k) {
    auto a = randomFloats(m * k, "activations");
    for (std::int64_t row = 1; row < m; row += 2)
        for (std::int64_t channel = 0; channel < 6; ++channel) a[row * k + (37 + 91 * channel) % k] *= 60;
    return a;
}

}  // namespace

TEST_CASE("digits hold a row within half a unit, and units are no larger than exact sums need") {
    const auto form = GENERATE(DigitForm::three, DigitForm::two);
    const auto bits = GENERATE(2, 4, 8);
    const std::int64_t k = 498, block = 300, segment = mostSegment(bits), m = 5;
    auto a = randomFloats(m * k, "a", 1e3);
    a[3] = 1e6F;  // its stretch is as coarse as that
    for (std::int64_t i = 0; i < k; ++i) {
        if (i >= 300) a[i] = 0;                    // a stretch of nothing
        a[k + i] = i % 2 != 0 ? 1e-31F : -1e-35F;  // a row of nothing
        a[2 * k + i] = -5.0F;                      // the largest sums
    }
    DigitRows given;
    given.form = form;
    given.bits = bits;
    given.a = a.data();
    given.aStride = given.k = k;
    given.rows = m;
    given.block = given.stretch = block;
    given.segment = segment;
    given.part = form == DigitForm::three ? block : std::min<std::int64_t>(2 * segment, 256);
    given.stripRows = form == DigitForm::three ? 1 : 3;
    SplitRows split(given, 3);
    REQUIRE(findUnits(split.rows) == Units::found);
    splitIntoDigits(split.rows);
    const std::int64_t perBlock = split.rows.segmentsPerBlock();
    for (std::int64_t row = 0; row < m; ++row) {
        std::vector<double> largest(2), largestSum(2), magnitudes(2 * perBlock);
        std::vector<std::int64_t> numbers(2 * perBlock), total(2 * perBlock), products(2 * perBlock);
        const auto segmentOf = [&](std::int64_t i) { return i / block * perBlock + i % block / segment; };
        for (std::int64_t i = 0; i < k; ++i) {
            const double magnitude = std::abs(a[row * k + i]);
            largest[i / block] = std::max(largest[i / block], magnitude);
            magnitudes[segmentOf(i)] += magnitude;
            largestSum[i / block] = std::max(largestSum[i / block], magnitudes[segmentOf(i)]);
            const std::int64_t number = split.number(row, i);
            numbers[segmentOf(i)] += std::abs(number);
            total[segmentOf(i)] += number;
            if (i % 2 != 0) products[segmentOf(i)] += (number >> 8) * (split.number(row, i - 1) >> 8);
            const double unit = split.units[row * 2 + i / block];
            const double error = std::abs(static_cast<double>(number) * unit - a[row * k + i]);
            REQUIRE(error <= std::max(unit * (0.5 + std::abs(number) * 0x1p-22), row == 1 ? 1e-30 : 0.0));
        }
        for (std::int64_t i = k; i < split.rows.groups * kDigitGroup; ++i) REQUIRE(split.number(row, i) == 0);
        for (std::int64_t s = 0; s < 2 * perBlock; ++s) {
            REQUIRE(split.sums[row * 2 * perBlock + s] == total[s]);
            if (form == DigitForm::two)
                REQUIRE(
                    split.products[(row / given.stripRows * 2 * perBlock + s) * given.stripRows +
                                   row % given.stripRows] == static_cast<std::int32_t>(-256 * products[s]));
            REQUIRE(numbers[s] <= std::int64_t{1} << (32 - bits));
        }
        for (std::int64_t s = 0; s < 2; ++s) {
            const double needed =
                std::max(largest[s] / (127 * 65536), largestSum[s] * std::exp2(bits - 32.0));
            REQUIRE(split.units[row * 2 + s] == Approx(largest[s] < 1e-30 ? 0 : needed).epsilon(1e-4));
        }
    }
    a[7] = INFINITY;
    CHECK(findUnits(split.rows) == Units::notFinite);
    a[7] = NAN;
    CHECK(findUnits(split.rows) == Units::notFinite);
}

TEST_CASE("the largest codes and numbers do not overflow the sums of digits") {
    // Whole blocks of codes at an end of their range, times the largest numbers and sums.
    for (const int bits : {2, 4, 8})
        for (const std::int64_t m : {1, 2, 9, 20})
            for (const int code : {0, (1 << bits) - 1})
                for (const std::int64_t block : {16, 32, 512}) {
                    Stored s = stored(512, 33, bits, block, Zeros::one, Order::rowMajor);
                    std::fill(s.codes.begin(), s.codes.end(), code);
                    s.zeros = {std::exp2f(static_cast<float>(bits - 1))};
                    s.matrix.zeroPoints = s.zeros;
                    s.matrix.codes = reinterpret_cast<const std::byte*>(s.codes.data());
                    const PackedCodesPtr packed = packCodes(s.matrix);
                    // Of every `step` k one has a number: with all, the sums are the largest; alone in its
                    // block, a number is.
                    for (const std::int64_t step : {std::int64_t{1}, block})
                        for (const float x : {3.0F, -3.0F}) {
                            std::vector<float> a(static_cast<std::size_t>(m * 512));
                            for (std::int64_t i = 0; i < m * 512; i += step) a[i] = x;
                            std::vector<float> c(static_cast<std::size_t>(m * 33));
                            matmul({a.data(), 512, m, packed.get(), c.data(), 33, {}});
                            for (std::int64_t i = 0; i < m * 33; ++i) {
                                double expected = 0;
                                for (std::int64_t l = 0; l < 512; ++l)
                                    expected += a[l] * weight(s.matrix, l, i % 33);
                                REQUIRE(c[i] == Approx(expected).epsilon(4e-6));
                            }
                        }
                }
}

TEST_CASE("products by digits are off by no more than their numbers") {
    const std::int64_t k = 1024, n = 256, m = 12;
    auto a = activations(m, k);
    // The worst: one segment is all.
    for (std::int64_t i = 0; i < k; ++i) a[2 * k + i] = i / 64 == 3 ? 1.0F : 1e-4F;
    for (const int bits : {4, 8}) {
        const Stored s = stored(k, n, bits, 128, Zeros::one, Order::rowMajor);
        const PackedCodesPtr packed = packCodes(s.matrix);
        std::vector<float> c(m * n);
        matmul({a.data(), k, m, packed.get(), c.data(), n, {}});
        // native/digits.h: one stretch. Float32 adds the segments' sums, 2^-24 of the largest so far each.
        const double segment = std::min<std::int64_t>(128, mostSegment(bits));
        const double unit = std::max(0x1p-22, std::sqrt(segment) * std::exp2(bits - 32.0));
        const double bound = 0.29 * std::sqrt(k) * unit + 0x1p-24 * std::sqrt(k / segment);
        for (std::int64_t row = 0; row < m; ++row) {
            double error = 0, square = 0;
            for (std::int64_t j = 0; j < n; ++j) {
                double expected = 0;
                for (std::int64_t l = 0; l < k; ++l) expected += a[row * k + l] * weight(s.matrix, l, j);
                error += std::pow(c[row * n + j] - expected, 2);
                square += expected * expected;
            }
            INFO(bits << " bits, row " << row << ": " << std::sqrt(error / square));
            REQUIRE(std::sqrt(error / square) < bound);
        }
    }
}

TEST_CASE("a row's results by digits are the same bytes however many rows there are") {
    for (const int bits : {2, 4, 8})
        for (const Zeros zeros : {Zeros::one, Zeros::each})
            for (const auto& [block, k] : std::vector<std::pair<std::int64_t, std::int64_t>>{
                     {48, 1104}, {512, 1104}, {1104, 1104}, {32, 4128}, {4224, 4224}}) {
                // Of narrow codes in whole panels, digits are in memory a part at a time.
                const std::int64_t n = zeros == Zeros::one ? 96 : 70, m = 26;
                const Stored s = stored(k, n, bits, block, zeros, Order::rowMajor);
                const PackedCodesPtr packed = packCodes(s.matrix);
                auto a = activations(m, k);
                std::fill_n(a.begin() + 3 * k, k, 0.0F);
                std::vector<float> all(m * n);
                matmul({a.data(), k, m, packed.get(), all.data(), n, {}});
                for (std::int64_t j = 0; j < n; ++j) REQUIRE(all[3 * n + j] == 0);
                for (const std::int64_t count : {1, 2, 7, 9, 13})
                    for (std::int64_t row = 0; row + count <= m; row += count) {
                        std::vector<float> some(count * n);
                        matmul({a.data() + row * k, k, count, packed.get(), some.data(), n, {}});
                        INFO(bits << " bits, blocks of " << block << ", " << count << " rows from " << row);
                        REQUIRE(std::memcmp(some.data(), all.data() + row * n,
                                            some.size() * sizeof(float)) == 0);
                    }
            }
}

TEST_CASE("instructions of AVX-VNNI and AVX-512 VNNI multiply digits alike") {
    std::vector<const CodedKernels*> sets;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512vnni")) {
        sets.push_back(&codedKernelsAvx512Vnni());
        sets.push_back(&codedKernelsAvx512VnniCrossed());
    }
    if (__builtin_cpu_supports("x86-64-v3") && __builtin_cpu_supports("avxvnni"))
        sets.push_back(&codedKernelsAvxVnni());
#endif
    for (const CodedKernels* set : sets)
        for (const int bits : {2, 4, 8})
            for (const Zeros zeros : {Zeros::one, Zeros::each})
                for (const std::int64_t count : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 17}) {
                    const std::int64_t k = 96, block = 32;
                    const Stored s = stored(k, 3 * kPanelColumns, bits, block, zeros, Order::rowMajor);
                    const PackedCodesPtr packed = packCodes(s.matrix);
                    const auto a = randomFloats(count * k, "a");
                    std::vector<std::uint32_t> codes(k / kDigitGroup * kWidenedWords);
                    for (const DigitForm form : {DigitForm::three, DigitForm::two}) {
                        DigitRows given;
                        given.form = form;
                        given.bits = bits;
                        given.a = a.data();
                        given.aStride = given.k = k;
                        given.rows = count;
                        given.block = block;
                        given.segment = 16;
                        given.stretch = given.part = k;
                        given.stripRows = form == DigitForm::three ? 1 : std::min<std::int64_t>(count, 12);
                        SplitRows split(given);
                        REQUIRE(findUnits(split.rows) == Units::found);
                        splitIntoDigits(split.rows);
                        DigitPanelTask task;
                        task.panel = codedPanel(*packed, 0);
                        const std::int64_t perGroup =
                            form == DigitForm::two ? kDigitGroup : packed->codesPerWord();
                        if (form == DigitForm::two) {
                            const WidenedPanel wide =
                                widened(task.panel, bits, set->pairs, 16 / kDigitGroup, codes.data());
                            task.panel = wide.panel;
                            task.pairs = wide.pairs;
                        }
                        task.digits = split.digits.data();
                        task.stripRows = split.rows.stripRows;
                        task.stripBytes = split.rows.partGroups(0) * split.rows.groupBytes();
                        task.sums = split.sums.data();
                        task.products = split.products.data();
                        task.segments = split.rows.segments();
                        task.groupsPerSegment = 16 / perGroup;
                        task.rows = count;
                        task.panels = form == DigitForm::two ? 1 : 3;  // a pair and one
                        std::vector<float> c(task.panels * count * kPanelColumns, 1e6F);
                        task.c = c.data();
                        (form == DigitForm::two ? set->addTwoDigits
                                                : set->addThreeDigits[codedKernelIndex(bits)])(task);
                        for (std::int64_t row = 0; row < count; ++row)
                            for (std::int64_t n = 0; n < task.panels * kPanelColumns; ++n) {
                                // Each segment's products are rounded once and added by one multiply-add;
                                // zero points are rounded twice, and taken off by another.
                                const std::int64_t panel = n / kPanelColumns, column = n % kPanelColumns;
                                double total = 1e6, rounded = 0;
                                for (std::int64_t first = 0; first < k; first += given.segment) {
                                    const std::int64_t at = first / block * kPanelColumns + column;
                                    const double scale = packed->panelScales(panel)[at];
                                    const double zero =
                                        packed->panelZeros(panel) ? packed->panelZeros(panel)[at] : packed->zero;
                                    double products = 0, numbers = 0;
                                    for (std::int64_t i = first; i < first + given.segment; ++i) {
                                        const auto number = static_cast<double>(split.number(row, i));
                                        products += number * std::nearbyint(packed->value(i, n) / scale + zero);
                                        numbers += number;
                                    }
                                    products *= scale;
                                    const double taken = scale * zero * numbers;
                                    rounded += std::abs(products) + std::abs(total + products) + 2 * std::abs(taken);
                                    total += products - taken;
                                    rounded += std::abs(total);
                                }
                                const float found = c[(panel * count + row) * kPanelColumns + column];
                                REQUIRE(std::abs(found - total) <= 1.01 * 0x1p-24 * rounded);
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
