#pragma once
// Three digits times stored codes (native/coded_kernel.h) for one instruction set, given by a type in the
// including file, and what that shares with two digits (native/coded_two_digits_loop.h):
//   Words, Ints, Floats    vectors of as many 32-bit elements, one a column
//   dotBytes(sums, u, s)    sums + the four products of unsigned and signed bytes of each column
//   dotPairs(sums, a, b)    sums + the two products of signed 16-bit numbers of each column
//   multiplyAdd(a, b, c)    a · b + c, rounded once
//   spread(p)    32 bits for all columns
//   kVectors    of columns at once
//   kPanelsOfOneRow    1 or 2 whose sums, three each, fit the registers
// Included after the file's target pragma, so that the templates are compiled for that instruction set; no
// function of the standard library is instantiated here.
//
// Sums are taken modulo 2^32: what they become in the end fits (native/digits.h). Both loops get the same
// integers and go on with the same operations in float32 in the order of k, so that a row's results do not
// depend on which of them it went through.

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
template <class Vector, class Element>
TCOMPRESS_INLINE void storeAs(Element* target, const Vector& value) {
    __builtin_memcpy(target, &value, sizeof value);
}

/// For what is used several times: the compiler would rather load it anew each time, and of all that a loop
/// here does, a processor does fewest loads a cycle.
template <class Vector>
TCOMPRESS_INLINE Vector inRegister(Vector value) {
    asm("" : "+v"(value));
    return value;
}

/// Left alone, the compiler computes once more behind a loop where these end.
TCOMPRESS_INLINE void keepCounting(const std::uint32_t*& codes, const std::int8_t*& digits) {
    asm("" : "+r"(codes), "+r"(digits));
}

/// segment(number of the segment, of its block, first group, end) for each in order.
template <class Segment>
TCOMPRESS_INLINE void forEachSegment(const DigitPanelTask& task, Segment segment) {
    const CodedPanel& panel = task.panel;
    std::int64_t group = 0, number = 0;
    for (std::int64_t block = 0; block < panel.blocks; ++block) {
        const std::int64_t blockEnd = smaller(panel.groups, (block + 1) * panel.groupsPerBlock);
        for (; group < blockEnd; ++number) {
            const std::int64_t end = smaller(blockEnd, group + task.groupsPerSegment);
            segment(number, block, group, end);
            group = end;
        }
    }
}

/// total + scale · Σ number · code.
template <class Isa>
TCOMPRESS_INLINE typename Isa::Floats addProducts(typename Isa::Floats total, typename Isa::Words products,
                                                  typename Isa::Floats scale) {
    using Floats = typename Isa::Floats;
    return Isa::multiplyAdd(__builtin_convertvector((typename Isa::Ints)products, Floats), scale, total);
}
/// Of a panel: whether zero points follow.
enum class Zeros { none, some };
/// total − scale · zero · Σ number.
template <class Isa>
TCOMPRESS_INLINE typename Isa::Floats subtractZeros(typename Isa::Floats total, typename Isa::Floats scale,
                                                    typename Isa::Floats zero, std::int32_t sum) {
    using Floats = typename Isa::Floats;
    return Isa::multiplyAdd(-(zero * scale), static_cast<float>(sum) - Floats{}, total);
}

/// Three digits times kVectors vectors of stored codes from column `first` on, kRows rows at once. Stored
/// codes are signed; a shift, a mask and a flip of the highest bit give four neighbouring k of each column as
/// unsigned bytes, as the instruction wants its left operand.
template <class Isa, int kBits, int kRows, int kPanels, Zeros kZeros>
[[gnu::noinline]] void addThreeDigitBlock(const DigitPanelTask& task, std::int64_t row, std::int64_t first,
                                          std::int64_t firstPanel) {
    using Words = typename Isa::Words;
    using Floats = typename Isa::Floats;
    constexpr int kVectors = Isa::kVectors * kPanels;
    constexpr int kWidth = static_cast<int>(sizeof(Words) / sizeof(std::uint32_t));
    constexpr int kSlots = 8 / kBits;
    constexpr std::uint32_t kMask = 0x01010101U * ((1U << kBits) - 1);
    constexpr std::uint32_t kFlip = 0x01010101U << (kBits - 1);
    // The hardware's own prefetching stops at the end of each page. One row of codes of 8 bits is so little work
    // that the processor reaches the next page by itself; asking would take loads from what it waits for.
    constexpr std::int64_t kAhead = kBits < 8 || kRows > 1 ? 32 * kPanelColumns : 0;
    const CodedPanel& panel = task.panel;
    const std::int64_t rowBytes = task.stripBytes;
    const std::int8_t* digits = task.digits + row * rowBytes;
    // Of vector v, by the distance between panels.
    const auto place = [first](int v, std::int64_t distance) __attribute__((always_inline)) {
        return v / Isa::kVectors * distance + first + v % Isa::kVectors * kWidth;
    };
    const std::int64_t wordsToNext = panel.wordsToNext, scalesToNext = panel.scalesToNext;
    const std::uint32_t* words = panel.words + firstPanel * wordsToNext;
    const float* const scales = panel.scales + firstPanel * scalesToNext;
    const float* const zeros = panel.zeros ? panel.zeros + firstPanel * scalesToNext : nullptr;
    const std::int32_t* const numbersOf = task.sums + row * task.segments;
    float* c = task.c + (firstPanel * task.rows + row) * kPanelColumns;
    const auto totalOf = [&](int r, int v) __attribute__((always_inline)) {
        return c + r * kPanelColumns + place(v, task.rows * kPanelColumns);
    };
    Floats totals[kRows][kVectors];
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) totals[r][v] = loadAs<Floats>(totalOf(r, v));
    forEachSegment(
        task, [&](std::int64_t segment, std::int64_t block, std::int64_t group,
                  std::int64_t end) __attribute__((always_inline)) {
            std::int32_t numbers[kRows];
            Words sums[kRows][3][kVectors];  // less what the flip raises the codes by
#pragma GCC unroll 2
            for (int r = 0; r < kRows; ++r) {
                numbers[r] = numbersOf[r * task.segments + segment];
                const Words raised = Words{} - (static_cast<std::uint32_t>(numbers[r]) << (kBits - 1));
#pragma GCC unroll 3
                for (int d = 0; d < 3; ++d)
#pragma GCC unroll 4
                    for (int v = 0; v < kVectors; ++v) sums[r][d][v] = d == 0 ? raised : Words{};
            }
            do {
                Words stored[kVectors];
#pragma GCC unroll 4
                for (int v = 0; v < kVectors; ++v) {
                    stored[v] = loadAs<Words>(words + place(v, wordsToNext));
                    if constexpr (kSlots > 1) stored[v] = inRegister(stored[v]);
                    if constexpr (kAhead > 0) __builtin_prefetch(words + place(v, wordsToNext) + kAhead);
                }
#pragma GCC unroll 4
                for (int slot = 0; slot < kSlots; ++slot) {
                    Words codes[kVectors];
#pragma GCC unroll 4
                    for (int v = 0; v < kVectors; ++v)
                        codes[v] = inRegister(((stored[v] >> (slot * kBits)) & kMask) ^ kFlip);
#pragma GCC unroll 2
                    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
                        for (int d = 0; d < 3; ++d) {
                            const Words four = Isa::spread(digits + r * rowBytes + slot * kDigitGroupBytes +
                                                           d * kDigitGroup);
#pragma GCC unroll 4
                            for (int v = 0; v < kVectors; ++v)
                                sums[r][d][v] = Isa::dotBytes(sums[r][d][v], codes[v], four);
                        }
                }
                words += kPanelColumns;
                digits += kSlots * kDigitGroupBytes;
                keepCounting(words, digits);
            } while (++group < end);
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                const std::int64_t at = block * kPanelColumns + place(v, scalesToNext);
                const Floats scale = loadAs<Floats>(scales + at);
#pragma GCC unroll 2
                for (int r = 0; r < kRows; ++r) {
                    const Words(&sum)[3][kVectors] = sums[r];
                    const Words products = (sum[2][v] << 16) + (sum[1][v] << 8) + sum[0][v];
                    totals[r][v] = addProducts<Isa>(totals[r][v], products, scale);
                }
                if constexpr (kZeros == Zeros::some) {
                    const Floats zero = zeros ? loadAs<Floats>(zeros + at) : panel.zero - Floats{};
#pragma GCC unroll 2
                    for (int r = 0; r < kRows; ++r)
                        totals[r][v] = subtractZeros<Isa>(totals[r][v], scale, zero, numbers[r]);
                }
            }
        });
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) storeAs(totalOf(r, v), totals[r][v]);
}

template <class Isa>
constexpr std::int64_t columnsAtOnce() {
    return static_cast<std::int64_t>(sizeof(typename Isa::Words) / sizeof(std::uint32_t)) * Isa::kVectors;
}

template <class Isa, int kBits, int kRows, int kPanels>
void addThreeDigitColumns(const DigitPanelTask& task, std::int64_t row, std::int64_t firstPanel) {
    const auto block = task.panel.zeros || task.panel.zero != 0
                           ? addThreeDigitBlock<Isa, kBits, kRows, kPanels, Zeros::some>
                           : addThreeDigitBlock<Isa, kBits, kRows, kPanels, Zeros::none>;
    for (std::int64_t first = 0; first < kPanelColumns; first += columnsAtOnce<Isa>())
        block(task, row, first, firstPanel);
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

}  // namespace tcompress::kernels::detail
