#pragma once
// Digit loops of native/coded_kernel.h for one instruction set, given by a type in the including file:
//   Words, Sums, Floats    vectors of as many 32-bit elements, one a column
//   dotBytes(sums, u, s)    sums + the four products of unsigned and signed bytes of each column
//   dotPairs(sums, a, b)    sums + the two products of signed 16-bit numbers of each column
//   spread(p)    32 bits for all columns
//   kMostRows    rows × kVectors vectors of columns whose sums, two each, fit the registers
//   kPanelsOfOneRow    1 or 2 whose sums, three each, fit the registers
// Included after the file's target pragma, so that the templates are compiled for that instruction set; no
// function of the standard library is instantiated here.

#include "kernels/native/coded_kernel.h"
#include "kernels/native/digits.h"

namespace tcompress::kernels::detail {

TCOMPRESS_INLINE std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

template <class Vector, class Element>
TCOMPRESS_INLINE Vector loadAs(const Element* source) {
    Vector value;
    __builtin_memcpy(&value, source, sizeof value);
    return value;
}

/// segment(number of the segment, of its block, first group, end) for each in order.
template <class Segment>
TCOMPRESS_INLINE void forEachSegment(const DigitPanelTask& task, Segment segment) {
    const CodedPanel& panel = task.panel;
    std::int64_t group = 0;
    for (std::int64_t block = 0; block < panel.blocks; ++block) {
        const std::int64_t blockEnd = smaller(panel.groups, (block + 1) * panel.groupsPerBlock);
        for (std::int64_t number = block * task.segmentsPerBlock; group < blockEnd; ++number) {
            const std::int64_t end = smaller(blockEnd, group + task.groupsPerSegment);
            segment(number, block, group, end);
            group = end;
        }
    }
}

/// Three digits times kVectors vectors of stored codes from column `first` on, kRows rows at once. Stored
/// codes are signed; a shift, a mask and a flip of the highest bit give four neighbouring k of each column as
/// unsigned bytes, as the instruction wants its left operand.
template <class Isa, int kBits, int kRows, int kPanels>
[[gnu::noinline]] void addThreeDigitBlock(const DigitPanelTask& task, std::int64_t row, std::int64_t first,
                                          std::int64_t firstPanel) {
    using Sums = typename Isa::Sums;
    using Words = typename Isa::Words;
    using Floats = typename Isa::Floats;
    constexpr int kVectors = Isa::kVectors * kPanels;
    constexpr int kWidth = static_cast<int>(sizeof(Sums) / sizeof(std::int32_t));
    constexpr int kSlots = 8 / kBits;
    constexpr std::uint32_t kMask = 0x01010101U * ((1U << kBits) - 1);
    constexpr std::uint32_t kFlip = 0x01010101U << (kBits - 1);
    constexpr float kRise = static_cast<float>(1 << (kBits - 1));  // of zero points, with the flip
    // The hardware's own prefetching stops at the end of each page.
    constexpr std::int64_t kAhead = 32 * kPanelColumns;
    const CodedPanel& panel = task.panel;
    const std::int64_t digitStride = task.digitStride;
    const std::int8_t* digits = task.digits + row * digitStride;
    // Of vector v, by the distance between panels.
    const auto place = [first](int v, std::int64_t distance) __attribute__((always_inline)) {
        return v / Isa::kVectors * distance + first + v % Isa::kVectors * kWidth;
    };
    const std::uint32_t* words = panel.words + firstPanel * panel.wordsToNext;
    const std::int64_t scalesBefore = firstPanel * panel.scalesToNext;
    float* c = task.c + (firstPanel * task.rows + row) * kPanelColumns;
    const auto totalOf = [&](int r, int v) __attribute__((always_inline)) {
        return c + r * kPanelColumns + place(v, task.rows * kPanelColumns);
    };
    Floats totals[kRows][kVectors];
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) totals[r][v] = loadAs<Floats>(totalOf(r, v));
    const Floats zeroOfAll = (panel.zero + kRise) - Floats{};
    forEachSegment(
        task, [&](std::int64_t segment, std::int64_t block, std::int64_t group,
                  std::int64_t end) __attribute__((always_inline)) {
            Sums sums[kRows][3][kVectors];
#pragma GCC unroll 2
            for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
                for (int d = 0; d < 3; ++d)
#pragma GCC unroll 4
                    for (int v = 0; v < kVectors; ++v) sums[r][d][v] = Sums{};
            for (; group < end; ++group) {
                Words stored[kVectors];
#pragma GCC unroll 4
                for (int v = 0; v < kVectors; ++v) {
                    stored[v] = loadAs<Words>(words + place(v, panel.wordsToNext));
                    __builtin_prefetch(words + place(v, panel.wordsToNext) + kAhead);
                }
#pragma GCC unroll 4
                for (int slot = 0; slot < kSlots; ++slot) {
                    Words codes[kVectors];
#pragma GCC unroll 4
                    for (int v = 0; v < kVectors; ++v)
                        codes[v] = ((stored[v] >> (slot * kBits)) & kMask) ^ kFlip;
#pragma GCC unroll 2
                    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
                        for (int d = 0; d < 3; ++d) {
                            const Words four = Isa::spread(digits + r * digitStride +
                                                           slot * kDigitGroupBytes + d * kDigitGroup);
#pragma GCC unroll 4
                            for (int v = 0; v < kVectors; ++v)
                                sums[r][d][v] = Isa::dotBytes(sums[r][d][v], codes[v], four);
                        }
                }
                words += kPanelColumns;
                digits += kSlots * kDigitGroupBytes;
            }
            const std::int64_t scalesAt = scalesBefore + block * kPanelColumns;
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                const std::int64_t at = scalesAt + place(v, panel.scalesToNext);
                const Floats scale = loadAs<Floats>(panel.scales + at);
                const Floats zero = panel.zeros ? loadAs<Floats>(panel.zeros + at) + kRise : zeroOfAll;
#pragma GCC unroll 2
                for (int r = 0; r < kRows; ++r) {
                    const Sums(&sum)[3][kVectors] = sums[r];
                    const Floats value =
                        __builtin_convertvector((sum[2][v] << 8) + sum[1][v], Floats) * 256.0F +
                        __builtin_convertvector(sum[0][v], Floats);
                    const std::int64_t unit = (row + r) * task.segments + segment;
                    totals[r][v] += (value * task.units[unit] - zero * task.segmentSums[unit]) * scale;
                }
            }
        });
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v)
            __builtin_memcpy(totalOf(r, v), &totals[r][v], sizeof totals[r][v]);
}

/// Two digits times widened codes.
template <class Isa, int kRows>
[[gnu::noinline]] void addTwoDigitBlock(const DigitPanelTask& task, std::int64_t row, std::int64_t first) {
    using Sums = typename Isa::Sums;
    using Words = typename Isa::Words;
    using Floats = typename Isa::Floats;
    constexpr int kVectors = Isa::kVectors;
    constexpr int kWidth = static_cast<int>(sizeof(Sums) / sizeof(std::int32_t));
    const CodedPanel& panel = task.panel;
    const std::int64_t digitStride = task.digitStride;
    const std::int8_t* digits = task.digits + row * digitStride;
    const std::uint32_t* words = panel.words + first;
    float* c = task.c + row * kPanelColumns + first;
    forEachSegment(
        task, [&](std::int64_t segment, std::int64_t block, std::int64_t group,
                  std::int64_t end) __attribute__((always_inline)) {
            Sums high[kRows][kVectors], low[kRows][kVectors];
#pragma GCC unroll 6
            for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
                for (int v = 0; v < kVectors; ++v) high[r][v] = low[r][v] = Sums{};
            for (; group < end; ++group) {
#pragma GCC unroll 3
                for (int part = 0; part < 3; ++part) {
                    Words codes[kVectors];
#pragma GCC unroll 2
                    for (int v = 0; v < kVectors; ++v)
                        codes[v] = loadAs<Words>(words + part * kPanelColumns + v * kWidth);
#pragma GCC unroll 6
                    for (int r = 0; r < kRows; ++r) {
                        const Words digit = Isa::spread(digits + r * digitStride + part * 4);
#pragma GCC unroll 2
                        for (int v = 0; v < kVectors; ++v)
                            if (part < 2)
                                high[r][v] = Isa::dotPairs(high[r][v], codes[v], digit);
                            else
                                low[r][v] = Isa::dotBytes(low[r][v], digit, codes[v]);
                    }
                }
                words += kWidenedWords;
                digits += kDigitGroupBytes;
            }
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) {
                const Floats scale =
                    loadAs<Floats>(panel.scales + block * kPanelColumns + first + v * kWidth);
#pragma GCC unroll 6
                for (int r = 0; r < kRows; ++r) {
                    float* const total = c + r * kPanelColumns + v * kWidth;
                    const Floats value = __builtin_convertvector(high[r][v], Floats) * 256.0F +
                                         __builtin_convertvector(low[r][v], Floats);
                    const Floats sum = loadAs<Floats>(total) +
                                       value * task.units[(row + r) * task.segments + segment] * scale;
                    __builtin_memcpy(total, &sum, sizeof sum);
                }
            }
            if (!panel.zeros && panel.zero == 0) return;
            for (int v = 0; v < kVectors; ++v) {
                const std::int64_t place = block * kPanelColumns + first + v * kWidth;
                const Floats zero = panel.zeros ? loadAs<Floats>(panel.zeros + place) : panel.zero - Floats{};
                const Floats scaled = zero * loadAs<Floats>(panel.scales + place);
                for (int r = 0; r < kRows; ++r) {
                    float* const total = c + r * kPanelColumns + v * kWidth;
                    const Floats sum = loadAs<Floats>(total) -
                                       scaled * task.segmentSums[(row + r) * task.segments + segment];
                    __builtin_memcpy(total, &sum, sizeof sum);
                }
            }
        });
}

template <class Isa>
constexpr std::int64_t columnsAtOnce() {
    return static_cast<std::int64_t>(sizeof(typename Isa::Sums) / sizeof(std::int32_t)) * Isa::kVectors;
}

template <class Isa, int kBits, int kRows, int kPanels>
void addThreeDigitColumns(const DigitPanelTask& task, std::int64_t row, std::int64_t firstPanel) {
    for (std::int64_t first = 0; first < kPanelColumns; first += columnsAtOnce<Isa>())
        addThreeDigitBlock<Isa, kBits, kRows, kPanels>(task, row, first, firstPanel);
}
template <class Isa, int kBits>
void addThreeDigits(const DigitPanelTask& task) {
    std::int64_t panel = 0;
    // The sums of one row and one panel are too few: each addition waits for the one before.
    if constexpr (Isa::kPanelsOfOneRow == 2)
        for (; task.rows == 1 && panel + 2 <= task.panels; panel += 2)
            addThreeDigitColumns<Isa, kBits, 1, 2>(task, 0, panel);
    for (; panel < task.panels; ++panel) {
        std::int64_t row = 0;
        for (; row + 2 <= task.rows; row += 2) addThreeDigitColumns<Isa, kBits, 2, 1>(task, row, panel);
        if (row < task.rows) addThreeDigitColumns<Isa, kBits, 1, 1>(task, row, panel);
    }
}

/// `count` rows from `row` on, at most kRows.
template <class Isa, int kRows>
void addTwoDigitRows(const DigitPanelTask& task, std::int64_t row, std::int64_t count) {
    if constexpr (kRows > 1)
        if (count < kRows) return addTwoDigitRows<Isa, kRows - 1>(task, row, count);
    for (std::int64_t first = 0; first < kPanelColumns; first += columnsAtOnce<Isa>())
        addTwoDigitBlock<Isa, kRows>(task, row, first);
}
template <class Isa>
void addTwoDigits(const DigitPanelTask& task) {
    std::int64_t strips = (task.rows + Isa::kMostRows - 1) / Isa::kMostRows;
    for (std::int64_t row = 0, count = 0; row < task.rows; row += count, --strips) {
        count = (task.rows - row + strips - 1) / strips;  // even strips: a short last one would run slowly
        addTwoDigitRows<Isa, Isa::kMostRows>(task, row, count);
    }
}

/// The table of an instruction set that has the one of `base` and Isa's instructions.
template <class Isa>
CodedKernels withDigits(CodedKernels base) {
    base.addThreeDigits[0] = addThreeDigits<Isa, 2>;
    base.addThreeDigits[1] = addThreeDigits<Isa, 4>;
    base.addThreeDigits[2] = addThreeDigits<Isa, 8>;
    base.addTwoDigits = addTwoDigits<Isa>;
    return base;
}

}  // namespace tcompress::kernels::detail
