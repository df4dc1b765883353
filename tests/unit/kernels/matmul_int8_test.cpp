#include "kernels/matmul_int8.h"

#include <catch2/catch.hpp>

#include "kernels/aligned_buffer.h"
#include "kernels/native/int8_kernel.h"
#include "kernels/packed_int8_weights.h"
#include "kernels/quantize.h"
#include "tests/unit/kernels/kernel_test_support.h"

using namespace tcompress;
using namespace tcompress::kernels;
using namespace tcompress::kernels::test;

namespace {

std::vector<std::uint8_t> randomBytes(std::int64_t count, const char* name) {
    Random random(5, name);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count));
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random.below(256));
    return bytes;
}

std::int32_t valueOf(std::uint8_t byte, DType type) {
    return type == DType::uint8 ? byte : static_cast<std::int8_t>(byte);
}

/// By the definition, in 64 bits.
std::vector<std::int32_t> expectedProduct(const std::vector<std::uint8_t>& a, DType aType,
                                          std::int64_t aStride, const std::vector<std::int32_t>& aZeros,
                                          const std::vector<std::uint8_t>& b, DType bType,
                                          const std::vector<std::int32_t>& bZeros, std::int64_t m,
                                          std::int64_t k, std::int64_t n) {
    std::vector<std::int32_t> c;
    for (std::int64_t i = 0; i < m; ++i)
        for (std::int64_t j = 0; j < n; ++j) {
            const std::int32_t aZero = aZeros.empty() ? 0 : aZeros[aZeros.size() > 1 ? i : 0];
            const std::int32_t bZero = bZeros.empty() ? 0 : bZeros[bZeros.size() > 1 ? j : 0];
            std::int64_t sum = 0;
            for (std::int64_t l = 0; l < k; ++l)
                sum += static_cast<std::int64_t>(valueOf(a[i * aStride + l], aType) - aZero) *
                       (valueOf(b[l * n + j], bType) - bZero);
            c.push_back(static_cast<std::int32_t>(sum));
        }
    return c;
}

}  // namespace

TEST_CASE("integer product is exact for every mix of types and zero points") {
    Restore restore;
    for (const KernelChoice choice : {KernelChoice::fastest, KernelChoice::reference}) {
        setKernelChoice(choice);
        for (const DType aType : {DType::uint8, DType::int8})
            for (const DType bType : {DType::uint8, DType::int8})
                for (int zeros = 0; zeros < 6; ++zeros) {
                    const std::int64_t m = 19, k = 70, n = 45, stride = k + 3;
                    const auto a = randomBytes(m * stride, "a");
                    const auto b = randomBytes(k * n, "b");
                    std::vector<std::int32_t> aZeros;
                    std::vector<std::int32_t> bZeros;
                    if (zeros % 3 == 1) aZeros = {aType == DType::uint8 ? 131 : -7};
                    if (zeros % 3 == 2)
                        for (std::int64_t i = 0; i < m; ++i) aZeros.push_back(static_cast<std::int32_t>(i));
                    if (zeros == 1) bZeros = {bType == DType::uint8 ? 128 : 5};
                    if (zeros > 2)
                        for (std::int64_t i = 0; i < n; ++i) bZeros.push_back(static_cast<std::int32_t>(i));
                    const auto packed = packInt8Weights(b.data(), bType, k, n, n, 1, bZeros);
                    REQUIRE(rows(*packed) == k);
                    REQUIRE(columns(*packed) == n);
                    std::vector<std::int32_t> c(static_cast<std::size_t>(m * n));
                    matmulInt8(Int8Matmul{a.data(), aType, stride, m, aZeros, packed.get(), c.data(), n});
                    INFO("zeros " << zeros << " aType " << static_cast<int>(aType) << " bType "
                                  << static_cast<int>(bType));
                    REQUIRE(c == expectedProduct(a, aType, stride, aZeros, b, bType, bZeros, m, k, n));
                }
    }
}

TEST_CASE("integer product at awkward sizes, the largest values, and B by strides") {
    Restore restore;
    for (const std::int64_t m : {1, 3, 16, 17, 257, 300})
        for (const std::int64_t n : {1, 31, 33, 256, 300})
            for (const std::int64_t k : {1, 3, 64, 130}) {
                // 255 · −128 summed: a 16-bit intermediate sum would saturate.
                const std::vector<std::uint8_t> a(static_cast<std::size_t>(m * k), 255);
                std::vector<std::uint8_t> b(static_cast<std::size_t>(k * n), 0x80);
                b.back() = 0x7f;
                const auto packed = packInt8Weights(b.data(), DType::int8, k, n, n, 1, {});
                std::vector<std::int32_t> c(static_cast<std::size_t>(m * n), 7);
                matmulInt8(Int8Matmul{a.data(), DType::uint8, k, m, {}, packed.get(), c.data(), n});
                INFO("m " << m << " n " << n << " k " << k);
                REQUIRE(c.front() == (n == 1 ? -255 * 128 * (k - 1) + 255 * 127 : -255 * 128 * k));
                REQUIRE(c.back() == -255 * 128 * (k - 1) + 255 * 127);
                std::vector<std::uint8_t> transposed(b.size());
                for (std::int64_t i = 0; i < k; ++i)
                    for (std::int64_t j = 0; j < n; ++j) transposed[j * k + i] = b[i * n + j];
                const auto again = packInt8Weights(transposed.data(), DType::int8, k, n, 1, k, {});
                std::vector<std::int32_t> c2(c.size());
                matmulInt8(Int8Matmul{a.data(), DType::uint8, k, m, {}, again.get(), c2.data(), n});
                REQUIRE(c == c2);
            }
}

TEST_CASE("dynamic quantization of A, the product, scales, bias, activation and residual in one") {
    Restore restore;
    const std::int64_t m = 270, k = 64, n = 290;
    const auto a = paddedMatrix(m, k, k + 1, "a");
    const auto b = randomBytes(k * n, "b");
    const auto bias = randomFloats(n, "bias");
    const auto residual = randomFloats(m * n, "residual");
    std::vector<float> scales = randomFloats(n, "scales", 0.01);
    std::vector<std::uint8_t> quantized(static_cast<std::size_t>(m * k));
    const UInt8Parameters q = dynamicQuantizeLinear(a.data(), m, k, k + 1, quantized.data());
    const auto packed = packInt8Weights(b.data(), DType::int8, k, n, n, 1, {});
    const auto sums = expectedProduct(quantized, DType::uint8, k, {q.zeroPoint}, b, DType::int8, {}, m, k, n);
    for (const bool perColumn : {true, false})
        for (const Activation activation : {Activation::none, Activation::geluErf}) {
            std::vector<float> c(static_cast<std::size_t>(m * n));
            DynamicInt8Matmul params;
            params.a = a.data();
            params.aStride = k + 1;
            params.m = m;
            params.weights = packed.get();
            params.bScales =
                perColumn ? std::span<const float>(scales) : std::span<const float>(scales).first(1);
            params.c = c.data();
            params.cStride = n;
            params.epilogue = {1.0F, bias.data(), activation, residual.data(), n};
            matmulInt8(params);
            double worst = 0;
            for (std::int64_t i = 0; i < m; ++i)
                for (std::int64_t j = 0; j < n; ++j) {
                    double value =
                        static_cast<double>(sums[i * n + j]) * q.scale * scales[perColumn ? j : 0] + bias[j];
                    if (activation == Activation::geluErf)
                        value = 0.5 * value * (1 + std::erf(value / std::sqrt(2.0)));
                    value += residual[i * n + j];
                    worst = std::max(worst, std::abs(value - c[i * n + j]) / (1 + std::abs(value)));
                }
            CHECK(worst < 1e-6);
            for (const int threads : {2, 3, 8}) {
                setThreadCount(threads);
                std::vector<float> again(c.size());
                params.c = again.data();
                matmulInt8(params);
                REQUIRE(sameBits(c, again));
            }
            setKernelChoice(KernelChoice::reference);
            std::vector<float> reference(c.size());
            params.c = reference.data();
            matmulInt8(params);
            setKernelChoice(KernelChoice::fastest);
            CHECK(maxDifference(c, reference) < 1e-5);
            setThreadCount(0);
        }
}

TEST_CASE("integer product of operands that are not packed") {
    const std::int64_t m = 3, k = 5, n = 4;
    const auto a = randomBytes(m * k, "a");
    const auto b = randomBytes(k * n, "b");
    std::vector<std::int32_t> c(12);
    const std::vector<std::int32_t> aZero = {3};
    const std::vector<std::int32_t> bZero = {200};
    matmulInt8Unpacked(a.data(), DType::uint8, aZero, b.data(), DType::uint8, bZero, m, k, n, c.data());
    CHECK(c == expectedProduct(a, DType::uint8, k, aZero, b, DType::uint8, bZero, m, k, n));
}

TEST_CASE("every instruction set's int8 kernel gives the exact sums") {
    int ran = 0;
    for (const Int8PanelKernelRow& kernel : int8PanelKernels()) {
        if (!kernel.supported) continue;
        ++ran;
        for (std::int64_t rows = 1; rows <= 25; ++rows)
            for (const std::int64_t groups : {0, 1, 2, 3, 4, 5, 17}) {
                const std::int64_t aStride = groups * kInt8Group + 3;
                auto a = randomBytes(rows * aStride, "a");
                auto panel = randomBytes(groups * kInt8PanelBytesPerGroup, "panel");
                if (groups == 17) {  // 255 · −128 all along: 16-bit intermediate sums would saturate
                    std::fill(a.begin(), a.end(), std::uint8_t{255});
                    std::fill(panel.begin(), panel.end(), std::uint8_t{0x80});
                }
                std::vector<std::int32_t> sums(static_cast<std::size_t>(rows * (kInt8PanelColumns + 1)), 77);
                kernel.run({a.data(), aStride, rows, reinterpret_cast<const std::int8_t*>(panel.data()),
                            groups, 0, sums.data(), kInt8PanelColumns + 1});
                std::int64_t wrong = 0;
                for (std::int64_t row = 0; row < rows; ++row) {
                    for (std::int64_t column = 0; column < kInt8PanelColumns; ++column) {
                        std::int32_t expected = 0;
                        for (std::int64_t k = 0; k < groups * kInt8Group; ++k)
                            expected += a[row * aStride + k] *
                                        valueOf(panel[k / kInt8Group * kInt8PanelBytesPerGroup +
                                                      column * kInt8Group + k % kInt8Group],
                                                DType::int8);
                        if (sums[row * (kInt8PanelColumns + 1) + column] != expected) ++wrong;
                    }
                    if (sums[row * (kInt8PanelColumns + 1) + kInt8PanelColumns] != 77) ++wrong;
                }
                INFO(kernel.name << ": " << rows << " rows, " << groups << " groups");
                REQUIRE(wrong == 0);
            }
    }
    CHECK(ran >= 1);
}

TEST_CASE("weights packed for oneDNN give the same sums as our panels") {
    if (onednn::refuseInt8()) return;  // tested where oneDNN's sums are exact
    const std::int64_t m = 21, k = 70, n = 300;
    const auto a = randomBytes(m * k, "a");
    const auto b = randomBytes(k * n, "b");
    std::vector<std::int32_t> bZeros;
    for (std::int64_t i = 0; i < n; ++i) bZeros.push_back(static_cast<std::int32_t>(i % 100));
    const std::vector<std::int32_t> aZero = {7};
    for (const DType aType : {DType::uint8, DType::int8}) {
        std::vector<std::int32_t> sums[2];
        std::vector<float> floats[2];
        for (const Int8Form form : {Int8Form::panels, Int8Form::onednnBlocks}) {
            const auto packed = packInt8Weights(b.data(), DType::uint8, k, n, n, 1, bZeros, form);
            auto& c = sums[static_cast<int>(form)];
            c.resize(static_cast<std::size_t>(m * n));
            matmulInt8(Int8Matmul{a.data(), aType, k, m, aZero, packed.get(), c.data(), n});
            auto& y = floats[static_cast<int>(form)];
            y.resize(c.size());
            const float scale = 0.5F;
            ScaledInt8Matmul scaled;
            scaled.a = a.data();
            scaled.aStride = k;
            scaled.m = m;
            scaled.aCode = {aType, 0.25F, 7};
            scaled.weights = packed.get();
            scaled.bScales = {&scale, 1};
            scaled.c = y.data();
            scaled.cStride = n;
            matmulInt8(scaled);
            CHECK(packed->values() == packInt8Weights(b.data(), DType::uint8, k, n, n, 1, bZeros)->values());
        }
        CHECK(sums[0] == expectedProduct(a, aType, k, aZero, b, DType::uint8, bZeros, m, k, n));
        CHECK(sums[0] == sums[1]);
        CHECK(floats[0] == floats[1]);
        for (std::size_t i = 0; i < sums[0].size(); ++i)
            REQUIRE(floats[0][i] == static_cast<float>(sums[0][i]) * 0.125F);
    }
}

TEST_CASE("codes on the way of an int8 product: rounded before the bias, and as the result") {
    Restore restore;
    const std::int64_t m = 29, k = 36, n = 77;
    const auto a = randomBytes(m * k, "a");
    const auto b = randomBytes(k * n, "b");
    const auto bias = randomFloats(n, "bias");
    const auto scales = randomFloats(n, "scales", 0.01);
    const auto packed = packInt8Weights(b.data(), DType::int8, k, n, n, 1, {});
    const Int8Code codes[] = {{DType::uint8, 0.9F, 131}, {DType::int8, 1.3F, -4}};
    for (const Int8Code& aCode : {Int8Code{DType::uint8, 0.11F, 99}, Int8Code{DType::int8, 0.11F, -3}})
        for (const Int8Code& middle : codes)
            for (const Int8Code& result : codes)
                for (const bool withMiddle : {true, false}) {
                    ScaledInt8Matmul params;
                    params.a = a.data();
                    params.aStride = k;
                    params.m = m;
                    params.aCode = aCode;
                    params.weights = packed.get();
                    params.bScales = scales;
                    if (withMiddle) params.beforeBias = middle;
                    params.epilogue.bias = bias.data();
                    params.epilogue.activation = Activation::relu;
                    std::vector<float> real(static_cast<std::size_t>(m * n));
                    params.c = real.data();
                    params.cStride = n;
                    matmulInt8(params);
                    std::vector<std::uint8_t> coded(real.size() + 1, 0xee);
                    params.result = result;
                    params.c = coded.data();
                    matmulInt8(params);
                    CHECK(coded.back() == 0xee);
                    setKernelChoice(KernelChoice::reference);
                    std::vector<std::uint8_t> reference(real.size());
                    params.c = reference.data();
                    matmulInt8(params);
                    setKernelChoice(KernelChoice::fastest);
                    // The definition, and no more than one code away where rounding meets a tie.
                    std::int64_t different = 0;
                    for (std::size_t i = 0; i < real.size(); ++i) {
                        const std::int32_t low = result.type == DType::uint8 ? 0 : -128;
                        const double rounded = std::nearbyint(real[i] / result.scale) + result.zeroPoint;
                        const auto expected =
                            static_cast<std::int32_t>(std::clamp<double>(rounded, low, low + 255));
                        REQUIRE(std::abs(valueOf(coded[i], result.type) - expected) <= 1);
                        if (valueOf(coded[i], result.type) != expected) ++different;
                        if (valueOf(reference[i], result.type) != expected) ++different;
                    }
                    CHECK(different < m * n / 100);
                }
}
