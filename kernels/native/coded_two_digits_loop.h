#pragma once
// Two digits times widened codes (native/coded_kernel.h) for one instruction set. Beside what
// native/coded_digits_loop.h wants, the type in the including file has
//   kMostRows    rows × kVectors vectors of columns whose sums fit the registers: up to 8, up to 4 of crossed
//                pairs
//   kPairs       in which form codes are widened
//   addPairs(a, b)    of 16-bit numbers, for crossed pairs
// Included after the file's target pragma.

#include "kernels/native/coded_digits_loop.h"

namespace tcompress::kernels::detail {

/// Rows of a strip from `row` on.
struct StripRows {
    std::int64_t row = 0;
    const std::int8_t* digits = nullptr;
    const std::int32_t* products = nullptr;  // of crossed pairs
};

/// The end of a segment: totals + scale · (sumOf(row, vector) − zero · Σ number), of rows from `row` and columns from `first` on.
template <class Isa, int kRows, Zeros kZeros, class SumOf>
TCOMPRESS_INLINE void addSegment(typename Isa::Floats (&totals)[kRows][Isa::kVectors], const DigitPanelTask& task,
                                 std::int64_t row, std::int64_t first, std::int64_t segment, std::int64_t block,
                                 SumOf sumOf) {
    using Floats = typename Isa::Floats;
    constexpr int kWidth = static_cast<int>(sizeof(Floats) / sizeof(float));
    const CodedPanel& panel = task.panel;
#pragma GCC unroll 2
    for (int v = 0; v < Isa::kVectors; ++v) {
        const std::int64_t at = block * kPanelColumns + first + v * kWidth;
        const Floats scale = loadAs<Floats>(panel.scales + at);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) totals[r][v] = addProducts<Isa>(totals[r][v], sumOf(r, v), scale);
        if constexpr (kZeros == Zeros::some) {
            const Floats zero = panel.zeros ? loadAs<Floats>(panel.zeros + at) : panel.zero - Floats{};
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r)
                totals[r][v] = subtractZeros<Isa>(totals[r][v], scale, zero, task.sums[(row + r) * task.segments + segment]);
        }
    }
}

/// Two digits times widened codes: kRows rows at once.
template <class Isa, int kRows, Zeros kZeros>
[[gnu::noinline]] void addTwoDigitBlock(const DigitPanelTask& task, StripRows strip, std::int64_t first) {
    using Words = typename Isa::Words;
    using Floats = typename Isa::Floats;
    constexpr int kVectors = Isa::kVectors;
    constexpr int kWidth = static_cast<int>(sizeof(Words) / sizeof(std::uint32_t));
    const CodedPanel& panel = task.panel;
    const std::int64_t groupBytes = task.stripRows * kDigitGroupBytes;
    const std::uint32_t* bytes = panel.words + first;
    const std::uint32_t* pairs = task.pairs + first;
    const std::int64_t row = strip.row;
    const std::int8_t* digits = strip.digits;
    float* const c = task.c + row * task.cStride + first;
    Floats totals[kRows][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) totals[r][v] = loadAs<Floats>(c + r * task.cStride + v * kWidth);
    forEachSegment(
        task, [&](std::int64_t segment, std::int64_t block, std::int64_t group,
                  std::int64_t end) __attribute__((always_inline)) {
            Words sums[kRows][kVectors];
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
                for (int v = 0; v < kVectors; ++v) sums[r][v] = Words{};
            do {
#pragma GCC unroll 3
                for (int part = 0; part < 3; ++part) {
                    Words codes[kVectors];
#pragma GCC unroll 2
                    for (int v = 0; v < kVectors; ++v)
                        codes[v] = loadAs<Words>((part < 2 ? pairs + part * kPanelColumns : bytes) +
                                                 v * kWidth);
#pragma GCC unroll 8
                    for (int r = 0; r < kRows; ++r) {
                        const Words digit = Isa::spread(digits + r * kDigitGroupBytes + part * 4);
#pragma GCC unroll 2
                        for (int v = 0; v < kVectors; ++v)
                            sums[r][v] = part < 2 ? Isa::dotPairs(sums[r][v], codes[v], digit)
                                                  : Isa::dotBytes(sums[r][v], digit, codes[v]);
                    }
                }
                pairs += 2 * kPanelColumns;
                bytes += kPanelColumns;
                digits += groupBytes;
            } while (++group < end);
            addSegment<Isa, kRows, kZeros>(totals, task, row, first, segment, block,
                                           [&](int r, int v) __attribute__((always_inline)) { return sums[r][v]; });
        });
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) storeAs(c + r * task.cStride + v * kWidth, totals[r][v]);
}

/// The same with crossed pairs; d₁'s sums and d₀'s are put together at the end of a segment.
template <class Isa, int kRows, Zeros kZeros>
[[gnu::noinline]] void addCrossedBlock(const DigitPanelTask& task, StripRows strip, std::int64_t first) {
    using Words = typename Isa::Words;
    using Floats = typename Isa::Floats;
    constexpr int kVectors = Isa::kVectors;
    constexpr int kWidth = static_cast<int>(sizeof(Words) / sizeof(std::uint32_t));
    const CodedPanel& panel = task.panel;
    const std::int64_t groupBytes = task.stripRows * kDigitGroupBytes;
    const std::uint32_t* codes = panel.words + first;
    float* const c = task.c + strip.row * task.cStride + first;
    Floats totals[kRows][kVectors];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) totals[r][v] = loadAs<Floats>(c + r * task.cStride + v * kWidth);
    forEachSegment(
        task, [&](std::int64_t segment, std::int64_t block, std::int64_t group,
                  std::int64_t end) __attribute__((always_inline)) {
            Words high[kRows][kVectors], low[kRows][kVectors];
#pragma GCC unroll 4
            for (int r = 0; r < kRows; ++r) {
                const Words products = Isa::spread(strip.products + r);
#pragma GCC unroll 2
                for (int v = 0; v < kVectors; ++v) {
                    high[r][v] = loadAs<Words>(codes + v * kWidth);
                    low[r][v] = products;
                }
            }
            codes += kPanelColumns;
            strip.products += task.stripRows;
            do {
                Words second[kVectors], other[kVectors];
#pragma GCC unroll 2
                for (int v = 0; v < kVectors; ++v) {
                    second[v] = inRegister(loadAs<Words>(codes + v * kWidth));
                    other[v] = inRegister(loadAs<Words>(codes + kPanelColumns + v * kWidth));
                }
#pragma GCC unroll 4
                for (int r = 0; r < kRows; ++r) {
                    const std::int8_t* digits = strip.digits + r * kDigitGroupBytes;
                    const Words x = Isa::spread(digits), y = Isa::spread(digits + kDigitGroup);
#pragma GCC unroll 2
                    for (int v = 0; v < kVectors; ++v)
                        high[r][v] = Isa::dotPairs(high[r][v], Isa::addPairs(x, second[v]),
                                                   Isa::addPairs(y, other[v]));
                }
                Words bytes[kVectors];
#pragma GCC unroll 2
                for (int v = 0; v < kVectors; ++v)
                    bytes[v] = inRegister(loadAs<Words>(codes + 2 * kPanelColumns + v * kWidth));
#pragma GCC unroll 4
                for (int r = 0; r < kRows; ++r) {
                    const Words x = Isa::spread(strip.digits + r * kDigitGroupBytes + 2 * kDigitGroup);
#pragma GCC unroll 2
                    for (int v = 0; v < kVectors; ++v) low[r][v] = Isa::dotBytes(low[r][v], x, bytes[v]);
                }
                codes += 3 * kPanelColumns;
                strip.digits += groupBytes;
                keepCounting(codes, strip.digits);
            } while (++group < end);
            addSegment<Isa, kRows, kZeros>(
                totals, task, strip.row, first, segment, block,
                [&](int r, int v) __attribute__((always_inline)) { return (high[r][v] << 8) + low[r][v]; });
        });
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) storeAs(c + r * task.cStride + v * kWidth, totals[r][v]);
}

template <class Isa, int kRows, Zeros kZeros>
constexpr auto twoDigitBlock() {
    if constexpr (Isa::kPairs == CodePairs::crossed)
        return addCrossedBlock<Isa, kRows, kZeros>;
    else
        return addTwoDigitBlock<Isa, kRows, kZeros>;
}
/// `count` rows, at most kRows.
template <class Isa, int kRows>
void addTwoDigitRows(const DigitPanelTask& task, const StripRows& rows, std::int64_t count) {
    if constexpr (kRows > 1)
        if (count < kRows) return addTwoDigitRows<Isa, kRows - 1>(task, rows, count);
    const auto block = task.panel.zeros || task.panel.zero != 0 ? twoDigitBlock<Isa, kRows, Zeros::some>()
                                                                : twoDigitBlock<Isa, kRows, Zeros::none>();
    for (std::int64_t first = 0; first < kPanelColumns; first += columnsAtOnce<Isa>())
        block(task, rows, first);
}
template <class Isa>
void addTwoDigits(const DigitPanelTask& task) {
    StripRows strip{0, task.digits, task.products};
    // The next panel comes while this one is multiplied, a share with each strip.
    constexpr std::int64_t kLine = 64 / sizeof(std::uint32_t);
    const std::int64_t share = (task.nextWords * task.stripRows / task.rows + kLine) / kLine * kLine;
    std::int64_t asked = 0;
    for (; strip.row < task.rows; strip.row += task.stripRows) {
        const std::int64_t end = smaller(task.rows, strip.row + task.stripRows);
        for (const std::int64_t last = smaller(task.nextWords, asked + share); asked < last; asked += kLine)
            __builtin_prefetch(task.next + asked);
        // C's rows may lie a power of two apart, where they push each other out of the cache.
        for (std::int64_t row = end; row < smaller(task.rows, end + task.stripRows); ++row)
            for (std::int64_t line = 0; line < kPanelColumns; line += kLine)
                __builtin_prefetch(task.c + row * task.cStride + line, 1);
        // Even parts: a short last one would run slowly.
        std::int64_t parts = (end - strip.row + Isa::kMostRows - 1) / Isa::kMostRows;
        StripRows rows = strip;
        for (std::int64_t count = 0; rows.row < end; --parts) {
            count = (end - rows.row + parts - 1) / parts;
            addTwoDigitRows<Isa, Isa::kMostRows>(task, rows, count);
            rows.row += count;
            rows.digits += count * kDigitGroupBytes;
            if (rows.products) rows.products += count;
        }
        strip.digits += task.stripBytes;
        if (strip.products) strip.products += task.segments * task.stripRows;
    }
}

/// The table of an instruction set that has the one of `base` and Isa's instructions.
template <class Isa>
CodedKernels withDigits(CodedKernels base) {
    base.addThreeDigits[0] = addThreeDigits<Isa, 2>;
    base.addThreeDigits[1] = addThreeDigits<Isa, 4>;
    base.addThreeDigits[2] = addThreeDigits<Isa, 8>;
    base.addTwoDigits = addTwoDigits<Isa>;
    base.stripRows = Isa::kMostRows;
    base.pairs = Isa::kPairs;
    return base;
}

}  // namespace tcompress::kernels::detail
