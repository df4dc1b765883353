#pragma once
// Float32 loops of native/coded_kernel.h for one instruction set, given by a type in the including file:
//   Decoder<bits>    code number `index` of each word as floats
// Included after the file's target pragma, so that the templates are compiled for that instruction set.

#include "kernels/native/coded_kernel.h"
#include "kernels/native/vector_math.h"

namespace tcompress::kernels::detail {

/// Code number `index` of each word, by shifts.
template <int kBits>
struct ShiftDecoder {
    static constexpr int kCodesPerWord = 32 / kBits;
    TCOMPRESS_INLINE FloatVector operator()(IntVector words, int index) const {
        return __builtin_convertvector((words << (32 - kBits - codePosition(kBits, index))) >> (32 - kBits),
                                       FloatVector);
    }
};

/// By a table of 16 floats, which AVX-512 looks up in one instruction that reads the low four bits of each
/// lane.
template <int kBits>
struct TableDecoder {
    static constexpr int kCodesPerWord = 32 / kBits;
    FloatVector table;
    TCOMPRESS_INLINE TableDecoder() {
        for (int i = 0; i < kLanes; ++i)
            table[i] = static_cast<float>(
                static_cast<std::int32_t>(static_cast<std::uint32_t>(i) << (32 - kBits)) >> (32 - kBits));
    }
    TCOMPRESS_INLINE FloatVector operator()(IntVector words, int index) const {
        using Words = std::uint32_t __attribute__((vector_size(64)));
        return __builtin_shuffle(
            table, std::bit_cast<IntVector>(std::bit_cast<Words>(words) >> codePosition(kBits, index)));
    }
};

TCOMPRESS_INLINE IntVector loadWords(const std::uint32_t* source) {
    IntVector value;
    std::memcpy(&value, source, sizeof value);
    return value;
}

TCOMPRESS_INLINE FloatVector zerosOf(const CodedPanel& panel, std::int64_t place) {
    return panel.zeros ? loadVector(panel.zeros + place) : broadcastVector(panel.zero);
}

/// kRows rows × two vectors of columns. Few rows keep several sums for alternating codes: one sum's additions
/// wait for each other.
template <class Decoder, int kRows>
TCOMPRESS_INLINE void multiplyCodedRows(const CodedPanelTask& task) {
    constexpr int kCodes = Decoder::kCodesPerWord;
    constexpr int kVectors = kPanelColumns / kLanes;
    constexpr int kChains = kRows == 1 ? 4 : kRows == 2 ? 2 : 1;
    const Decoder decode;
    const CodedPanel& panel = task.panel;
    FloatVector totals[kRows][kVectors];
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) totals[r][v] = FloatVector{};
    const std::uint32_t* words = panel.words;
    const float* a = task.a;
    const std::int64_t aStride = task.aStride;
    for (std::int64_t block = 0; block < panel.blocks; ++block) {
        FloatVector sums[kChains][kRows][kVectors];
        for (int chain = 0; chain < kChains; ++chain)
            for (int r = 0; r < kRows; ++r)
                for (int v = 0; v < kVectors; ++v) sums[chain][r][v] = FloatVector{};
        const std::int64_t left = panel.groups - block * panel.groupsPerBlock;
        const std::int64_t end = panel.groupsPerBlock < left ? panel.groupsPerBlock : left;
        for (std::int64_t group = 0; group < end; ++group) {
            IntVector stored[kVectors];
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) stored[v] = loadWords(words + v * kLanes);
#pragma GCC unroll 16
            for (int i = 0; i < kCodes; ++i) {
#pragma GCC unroll 2
                for (int v = 0; v < kVectors; ++v) {
                    const FloatVector codes = decode(stored[v], i);
#pragma GCC unroll 4
                    for (int r = 0; r < kRows; ++r)
                        sums[i % kChains][r][v] += broadcastVector(a[r * aStride + i]) * codes;
                }
            }
            words += kPanelColumns;
            a += kCodes;
        }
        for (int v = 0; v < kVectors; ++v) {
            const std::int64_t place = block * kPanelColumns + v * kLanes;
            const FloatVector scale = loadVector(panel.scales + place);
            const FloatVector zero = zerosOf(panel, place);
            for (int r = 0; r < kRows; ++r) {
                FloatVector sum = sums[0][r][v];
                for (int chain = 1; chain < kChains; ++chain) sum += sums[chain][r][v];
                sum -= zero * task.blockSums[r * panel.blocks + block];
                totals[r][v] += sum * scale;
            }
        }
    }
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) storeVector(task.c + r * kPanelColumns + v * kLanes, totals[r][v]);
}

template <class Isa, int kBits>
[[gnu::noinline]] void multiplyCoded(const CodedPanelTask& task) {
    using Decoder = typename Isa::template Decoder<kBits>;
    switch (task.rows) {
        case 1:
            return multiplyCodedRows<Decoder, 1>(task);
        case 2:
            return multiplyCodedRows<Decoder, 2>(task);
        case 3:
            return multiplyCodedRows<Decoder, 3>(task);
        default:
            return multiplyCodedRows<Decoder, 4>(task);
    }
}

template <class Isa, int kBits>
[[gnu::noinline]] void decodePanel(const DecodeTask& task) {
    using Decoder = typename Isa::template Decoder<kBits>;
    constexpr int kCodes = Decoder::kCodesPerWord;
    constexpr int kVectors = kPanelColumns / kLanes;
    const Decoder decode;
    const CodedPanel& panel = task.panel;
    float* target = task.target;
    for (std::int64_t group = 0; group < panel.groups; ++group) {
        const std::int64_t place = group / panel.groupsPerBlock * kPanelColumns;
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
            const IntVector stored = loadWords(panel.words + group * kPanelColumns + v * kLanes);
            const FloatVector scale = loadVector(panel.scales + place + v * kLanes);
            const FloatVector zero = zerosOf(panel, place + v * kLanes);
#pragma GCC unroll 16
            for (int i = 0; i < kCodes; ++i)
                storeVector(target + i * kPanelColumns + v * kLanes, (decode(stored, i) - zero) * scale);
        }
        target += kCodes * kPanelColumns;
    }
}

template <class Isa>
constexpr CodedKernels codedKernelsOf() {
    return {{multiplyCoded<Isa, 2>, multiplyCoded<Isa, 4>, multiplyCoded<Isa, 8>},
            {decodePanel<Isa, 2>, decodePanel<Isa, 4>, decodePanel<Isa, 8>},
            {},
            nullptr};
}

}  // namespace tcompress::kernels::detail
