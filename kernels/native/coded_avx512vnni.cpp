// Few rows by digits: a shift and a mask give four codes of each column as bytes, which one instruction
// multiplies by four digits of A and adds. The rest is AVX-512's.

#include "kernels/packed_codes.h"

#if defined(__x86_64__)

#include <immintrin.h>

#pragma GCC target("arch=x86-64-v4,avx512vnni")
#include "kernels/native/coded_kernel.h"

namespace tcompress::kernels {

namespace {

using Sums = std::int32_t __attribute__((vector_size(64)));
using Words = std::uint32_t __attribute__((vector_size(64)));

/// No function of the standard library is instantiated here: it would be compiled for this instruction set.
constexpr std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

__m512i fourOf(const std::int8_t* digits) {
    std::int32_t four;
    std::memcpy(&four, digits, sizeof four);
    return _mm512_set1_epi32(four);
}

template <int kBits, int kRows>
[[gnu::noinline]] void multiplyRows(const DigitPanelTask& task) {
    constexpr int kSlots = 8 / kBits;
    constexpr int kVectors = kPanelColumns / kLanes;
    constexpr int kChains = kRows == 1 ? 2 : 1;
    // Stored codes are signed; these are unsigned again, as the instruction wants its left operand.
    constexpr std::uint32_t kMask = 0x01010101U * ((1U << kBits) - 1);
    constexpr std::uint32_t kFlip = 0x01010101U << (kBits - 1);
    FloatVector totals[kRows][kVectors];
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) totals[r][v] = FloatVector{};
    const std::uint32_t* words = task.words;
    std::int64_t group = 0;
    for (std::int64_t block = 0; block < task.blocks; ++block) {
        const std::int64_t blockEnd = smaller(task.groups, (block + 1) * task.groupsPerBlock);
        for (std::int64_t segment = block * task.segmentsPerBlock; group < blockEnd; ++segment) {
            Sums sums[kChains][kRows][3][kVectors];
#pragma GCC unroll 2
            for (int chain = 0; chain < kChains; ++chain)
#pragma GCC unroll 2
                for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
                    for (int d = 0; d < 3; ++d)
#pragma GCC unroll 2
                        for (int v = 0; v < kVectors; ++v) sums[chain][r][d][v] = Sums{};
            const std::int64_t end = smaller(blockEnd, group + task.groupsPerSegment);
            const auto step = [&](Sums(&sum)[kRows][3][kVectors]) __attribute__((always_inline)) {
                Words stored[kVectors];
#pragma GCC unroll 2
                for (int v = 0; v < kVectors; ++v)
                    std::memcpy(&stored[v], words + v * kLanes, sizeof stored[v]);
#pragma GCC unroll 4
                for (int slot = 0; slot < kSlots; ++slot) {
                    const std::int64_t place = (group * kSlots + slot) * 4;
                    __m512i codes[kVectors];
#pragma GCC unroll 2
                    for (int v = 0; v < kVectors; ++v)
                        codes[v] = (__m512i)(((stored[v] >> (slot * kBits)) & kMask) ^ kFlip);
#pragma GCC unroll 2
                    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
                        for (int d = 0; d < 3; ++d) {
                            const __m512i digits = fourOf(task.digits[d] + r * task.digitStride + place);
#pragma GCC unroll 2
                            for (int v = 0; v < kVectors; ++v)
                                sum[r][d][v] =
                                    (Sums)_mm512_dpbusd_epi32((__m512i)sum[r][d][v], codes[v], digits);
                        }
                }
                words += kPanelColumns;
                ++group;
            };
            while (group + kChains <= end) {
                step(sums[0]);
                if constexpr (kChains == 2) step(sums[1]);
            }
            if constexpr (kChains == 2)
                if (group < end) step(sums[0]);
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) {
                const FloatVector lowered = task.zeros
                                                ? loadVector(task.zeros + block * kPanelColumns + v * kLanes)
                                                : broadcastVector(task.zero);
                const FloatVector scale = loadVector(task.scales + block * kPanelColumns + v * kLanes);
                const FloatVector zero = lowered + static_cast<float>(1 << (kBits - 1));
#pragma GCC unroll 2
                for (int r = 0; r < kRows; ++r) {
                    Sums digits[3];
#pragma GCC unroll 3
                    for (int d = 0; d < 3; ++d) {
                        digits[d] = sums[0][r][d][v];
                        if constexpr (kChains == 2) digits[d] += sums[1][r][d][v];
                    }
                    const FloatVector value =
                        __builtin_convertvector((digits[2] << 8) + digits[1], FloatVector) * 256.0F +
                        __builtin_convertvector(digits[0], FloatVector);
                    const std::int64_t at = r * task.segments + segment;
                    totals[r][v] += (value * task.units[at] - zero * task.segmentSums[at]) * scale;
                }
            }
        }
    }
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) storeVector(task.c + r * kPanelColumns + v * kLanes, totals[r][v]);
}

template <int kBits>
void multiply(const DigitPanelTask& task) {
    if (task.rows == 1)
        multiplyRows<kBits, 1>(task);
    else
        multiplyRows<kBits, 2>(task);
}

}  // namespace

const CodedKernels& codedKernelsAvx512Vnni() {
    static const CodedKernels kernels = [] {
        CodedKernels made = codedKernelsAvx512();
        made.multiplyDigits[0] = multiply<2>;
        made.multiplyDigits[1] = multiply<4>;
        made.multiplyDigits[2] = multiply<8>;
        return made;
    }();
    return kernels;
}

}  // namespace tcompress::kernels

#endif
