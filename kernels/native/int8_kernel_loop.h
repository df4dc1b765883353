#pragma once
// The loop of native/int8_kernel.h for one instruction set, given by a type in the including file:
//   Sums            a vector of 32-bit sums, one a column
//   A, loadA(p)     four bytes of A for all columns;  B, loadB(p)  a vector of B, four bytes a column
//   add(sums, a, b) sums + the four products of each column
// Included after the file's target pragma, so that the templates are compiled for that instruction set; it
// therefore includes nothing itself.

namespace tcompress::kernels::detail {

/// kRows rows × kVectors vectors of columns from column `first` on. Few rows keep kChains sums of their own
/// for alternating groups: one sum's additions wait for each other.
template <class Isa, int kRows, int kVectors, int kChains>
[[gnu::noinline]] void multiplyInt8Block(const Int8PanelTask& task, std::int64_t row, std::int64_t first) {
    using Sums = typename Isa::Sums;
    constexpr int kWidth = static_cast<int>(sizeof(Sums) / sizeof(std::int32_t));
    Sums sums[kChains][kRows][kVectors];
#pragma GCC unroll 4
    for (int chain = 0; chain < kChains; ++chain)
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) sums[chain][r][v] = Sums{};

    const std::uint8_t* a = task.a + row * task.aStride;
    const std::int8_t* b = task.panel + first * kInt8Group;
    const std::int64_t aStride = task.aStride;
    const auto step = [&](Sums(&sum)[kRows][kVectors], std::int64_t group) __attribute__((always_inline)) {
        const std::int8_t* bytes = b + group * kInt8PanelBytesPerGroup;
        typename Isa::B columns[kVectors];
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) columns[v] = Isa::loadB(bytes + v * kWidth * kInt8Group);
        __builtin_prefetch(bytes + task.prefetch, 0, 2);
        if constexpr (kVectors * kWidth * kInt8Group > 64)
            __builtin_prefetch(bytes + task.prefetch + 64, 0, 2);
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
            const typename Isa::A element = Isa::loadA(a + r * aStride + group * kInt8Group);
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) sum[r][v] = Isa::add(sum[r][v], element, columns[v]);
        }
    };
    std::int64_t group = 0;
    for (; group + kChains <= task.groups; group += kChains)
#pragma GCC unroll 4
        for (int chain = 0; chain < kChains; ++chain) step(sums[chain], group + chain);
    for (; group < task.groups; ++group) step(sums[0], group);

    std::int32_t* target = task.sums + row * task.sumsStride + first;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
            Sums sum = sums[0][r][v];
#pragma GCC unroll 4
            for (int chain = 1; chain < kChains; ++chain) sum += sums[chain][r][v];
            __builtin_memcpy(target + r * task.sumsStride + v * kWidth, &sum, sizeof sum);
        }
}

template <class Isa, int kRows, int kVectors>
void multiplyInt8Rows(const Int8PanelTask& task, std::int64_t row) {
    constexpr int kColumns = static_cast<int>(sizeof(typename Isa::Sums) / sizeof(std::int32_t)) * kVectors;
    constexpr int kChains = kRows == 1 ? 4 : kRows <= 3 ? 2 : 1;
    for (std::int64_t first = 0; first < kInt8PanelColumns; first += kColumns)
        multiplyInt8Block<Isa, kRows, kVectors, kChains>(task, row, first);
}

/// All rows of the task, kRows at a time, then what is left at once.
template <class Isa, int kRows, int kVectors>
void multiplyInt8Panel(const Int8PanelTask& task) {
    std::int64_t row = 0;
    for (; row + kRows <= task.rows; row += kRows) multiplyInt8Rows<Isa, kRows, kVectors>(task, row);
    const auto tail = [&]<int kLeft>(auto&& self, std::integral_constant<int, kLeft>) {
        if constexpr (kLeft > 0) {
            if (task.rows - row == kLeft)
                multiplyInt8Rows<Isa, kLeft, kVectors>(task, row);
            else
                self(self, std::integral_constant<int, kLeft - 1>{});
        }
    };
    tail(tail, std::integral_constant<int, kRows - 1>{});
}

}  // namespace tcompress::kernels::detail
