#pragma once
// The inner loops of products with coded weights (packed_codes.h): a few rows of A times one panel, decoded
// in registers, and the decoding of a part of a panel to float32. Codes of a block are multiplied as they
// are; the scale and the zero point follow once a block: Σ x·(code − zero)·scale = scale · (Σ x·code − zero ·
// Σ x).

#include "kernels/native/vector_math.h"
#include "kernels/packed_codes.h"

namespace tcompress::kernels {

struct CodedPanelTask {
    static constexpr std::int64_t kMostRows = 4;

    const float* a = nullptr;  // whole groups of k readable
    std::int64_t aStride = 0;
    std::int64_t rows = 0;             // ≤ kMostRows
    const float* blockSums = nullptr;  // Σ of A's rows over each block: [row][block]
    const std::uint32_t* words = nullptr;
    const float* scales = nullptr;
    const float* zeros = nullptr;  // null: all are `zero`
    float zero = 0;
    std::int64_t groups = 0, groupsPerBlock = 0, blocks = 0;
    float* c = nullptr;  // [rows][kPanelColumns], dense
};

/// A part of a panel, from a whole block on: target[k][kPanelColumns] = (code − zero) · scale.
struct DecodeTask {
    const std::uint32_t* words = nullptr;
    const float* scales = nullptr;
    const float* zeros = nullptr;
    float zero = 0;
    std::int64_t groups = 0, groupsPerBlock = 0;
    float* target = nullptr;
};

/// A few rows as three 8-bit digits (native/digits.h) times one panel: exact integer sums over each segment
/// of k.
struct DigitPanelTask {
    static constexpr std::int64_t kMostRows = 2;  // more would not fit the registers

    const std::int8_t* digits[3] = {};   // lowest first, [row][groups · codes of a word]
    std::int64_t digitStride = 0;        // between rows
    const float* units = nullptr;        // value of one unit of the digits, [row][segment]
    const float* segmentSums = nullptr;  // Σ of A's rows over each segment: [row][segment]
    std::int64_t rows = 0;               // ≤ kMostRows
    const std::uint32_t* words = nullptr;
    const float* scales = nullptr;
    const float* zeros = nullptr;
    float zero = 0;
    std::int64_t groups = 0, groupsPerBlock = 0, blocks = 0;
    std::int64_t groupsPerSegment = 0, segmentsPerBlock = 0, segments = 0;
    float* c = nullptr;  // [rows][kPanelColumns], dense
};

struct CodedKernels {
    void (*multiply[3])(const CodedPanelTask&);  // for 2, 4 and 8 bits
    void (*decode[3])(const DecodeTask&);
    void (*multiplyDigits[3])(const DigitPanelTask&);  // null without VNNI
};
/// Of the best instruction set of this processor.
const CodedKernels& codedKernels();
const CodedKernels& codedKernelsAvx512Vnni();
const CodedKernels& codedKernelsAvx512();
const CodedKernels& codedKernelsAvx2();
const CodedKernels& codedKernelsBaseline();
constexpr int codedKernelIndex(int bits) { return bits == 2 ? 0 : bits == 4 ? 1 : 2; }

namespace detail {

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

/// kRows rows × two vectors of columns. Few rows keep several sums for alternating codes: one sum's additions
/// wait for each other.
template <class Decoder, int kRows>
TCOMPRESS_INLINE void multiplyCodedRows(const CodedPanelTask& task) {
    constexpr int kCodes = Decoder::kCodesPerWord;
    constexpr int kVectors = kPanelColumns / kLanes;
    constexpr int kChains = kRows == 1 ? 4 : kRows == 2 ? 2 : 1;
    const Decoder decode;
    FloatVector totals[kRows][kVectors];
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) totals[r][v] = FloatVector{};
    const std::uint32_t* words = task.words;
    const float* a = task.a;
    const std::int64_t aStride = task.aStride;
    const float* scales = task.scales;
    for (std::int64_t block = 0; block < task.blocks; ++block) {
        FloatVector sums[kChains][kRows][kVectors];
        for (int chain = 0; chain < kChains; ++chain)
            for (int r = 0; r < kRows; ++r)
                for (int v = 0; v < kVectors; ++v) sums[chain][r][v] = FloatVector{};
        const std::int64_t end = task.groupsPerBlock < task.groups - block * task.groupsPerBlock
                                     ? task.groupsPerBlock
                                     : task.groups - block * task.groupsPerBlock;
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
            const FloatVector scale = loadVector(scales + v * kLanes);
            const FloatVector zero = task.zeros ? loadVector(task.zeros + block * kPanelColumns + v * kLanes)
                                                : broadcastVector(task.zero);
            for (int r = 0; r < kRows; ++r) {
                FloatVector sum = sums[0][r][v];
                for (int chain = 1; chain < kChains; ++chain) sum += sums[chain][r][v];
                sum -= zero * task.blockSums[r * task.blocks + block];
                totals[r][v] += sum * scale;
            }
        }
        scales += kPanelColumns;
    }
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) storeVector(task.c + r * kPanelColumns + v * kLanes, totals[r][v]);
}

template <class Decoder>
TCOMPRESS_INLINE void multiplyCoded(const CodedPanelTask& task) {
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

template <class Decoder>
TCOMPRESS_INLINE void decodePanel(const DecodeTask& task) {
    constexpr int kCodes = Decoder::kCodesPerWord;
    constexpr int kVectors = kPanelColumns / kLanes;
    const Decoder decode;
    float* target = task.target;
    for (std::int64_t group = 0; group < task.groups; ++group) {
        const std::int64_t place = group / task.groupsPerBlock * kPanelColumns;
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
            const IntVector stored = loadWords(task.words + group * kPanelColumns + v * kLanes);
            const FloatVector scale = loadVector(task.scales + place + v * kLanes);
            const FloatVector zero =
                task.zeros ? loadVector(task.zeros + place + v * kLanes) : broadcastVector(task.zero);
#pragma GCC unroll 16
            for (int i = 0; i < kCodes; ++i)
                storeVector(target + i * kPanelColumns + v * kLanes, (decode(stored, i) - zero) * scale);
        }
        target += kCodes * kPanelColumns;
    }
}

}  // namespace detail

}  // namespace tcompress::kernels
