#pragma once
// The inner loop of the float32 matrix product: a block of rows of A times one panel of B, held in registers.
// A panel is kPanelColumns columns of B stored row after row ([K][kPanelColumns]), so the loop over k reads
// it in order; A is read in place, one broadcast element a row, and may be transposed. Loop structure after Goto and van de Geijn,
// "Anatomy of High-Performance Matrix Multiplication", 2008.

#include <cstdint>
#include <cstring>

#include "kernels/multiversion.h"

namespace tcompress::kernels {

/// One width for every instruction set, so that packed weights do not depend on it: two AVX-512 registers.
constexpr std::int64_t kPanelColumns = 32;

/// C[rows, columns] = (accumulate C) + A · panel, then · alpha + bias + residual when this is the last part
/// of K.
struct PanelTask {
    const float* a = nullptr;
    std::int64_t aStride = 0;  // between rows of A
    std::int64_t aStep = 1;    // between elements of a row of A
    std::int64_t rows = 0;
    const float* panel = nullptr;
    std::int64_t panelStride = kPanelColumns;  // more when B is read where it is
    std::int64_t k = 0;
    /// The panel that is multiplied after this one, when it is not in the second-level cache yet: it is asked
    /// for row by row on the way, which hides the memory behind few rows of A. Null otherwise.
    const float* next = nullptr;
    float* c = nullptr;
    std::int64_t cStride = 0;
    std::int64_t columns = 0;  // ≤ kPanelColumns
    enum class Part { only, first, middle, last } part = Part::only;
    float alpha = 1.0F;
    const float* bias = nullptr;      // of this panel's columns
    const float* residual = nullptr;  // of this block
    std::int64_t residualStride = 0;
};

using PanelKernel = void (*)(const PanelTask&);
/// Runs task.rows rows with the best instruction set of this processor.
PanelKernel panelKernel();

void multiplyPanelAvx512(const PanelTask& task);
void multiplyPanelAvx2(const PanelTask& task);
void multiplyPanelBaseline(const PanelTask& task);

namespace detail {

/// The end of a product of which fewer columns than a whole number of vectors exist: the same arithmetic,
/// element by element.
[[gnu::noinline]] inline void finishPartial(const PanelTask& task, std::int64_t row, std::int64_t first,
                                            std::int64_t rows, const float* sums, std::int64_t sumStride) {
    const bool last = task.part == PanelTask::Part::only || task.part == PanelTask::Part::last;
    const bool adds = task.part == PanelTask::Part::middle || task.part == PanelTask::Part::last;
    for (std::int64_t r = 0; r < rows; ++r) {
        float* c = task.c + (row + r) * task.cStride;
        for (std::int64_t column = first; column < task.columns; ++column) {
            float value = sums[r * sumStride + column - first];
            if (adds) value += c[column];
            if (last) {
                value = value * task.alpha + (task.bias ? task.bias[column] : 0.0F);
                if (task.residual) value += task.residual[(row + r) * task.residualStride + column];
            }
            c[column] = value;
        }
    }
}

/// kRows rows × kVectors vectors of V, starting at column `first` of the panel.
template <class V, int kRows, int kVectors>
TCOMPRESS_INLINE void multiplyBlock(const PanelTask& task, std::int64_t row, std::int64_t first) {
    constexpr int kWidth = static_cast<int>(sizeof(V) / sizeof(float));
    constexpr int kColumns = kWidth * kVectors;
    using Part = PanelTask::Part;
    V sums[kRows][kVectors];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sums[r][v] = V{};

    const float* a = task.a + row * task.aStride;
    const float* b = task.panel + first;
    const std::int64_t aStride = task.aStride;
    const std::int64_t aStep = task.aStep;
    constexpr int kBases = (kRows + 3) / 4;
    const float* bases[kBases];
#pragma GCC unroll 4
    for (int i = 0; i < kBases; ++i) bases[i] = a + 4 * i * aStride;
    const std::int64_t threeRows = 3 * aStride;
    const std::int64_t panelStride = task.panelStride;
    const std::int64_t ahead = task.next ? task.next - task.panel : 0;
    constexpr int kVectorsOfLine = static_cast<int>(64 / sizeof(V));
    for (std::int64_t k = 0; k < task.k; ++k) {
        V bRow[kVectors];
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) std::memcpy(&bRow[v], b + v * kWidth, sizeof(V));
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; v += kVectorsOfLine) __builtin_prefetch(b + ahead + v * kWidth, 0, 2);
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
            const std::int64_t offset = r % 4 == 3 ? threeRows : r % 4 * aStride;
            const V element = bases[r / 4][offset] - V{};  // x − 0 is x, so this is a plain broadcast
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) sums[r][v] += element * bRow[v];
        }
        b += panelStride;
#pragma GCC unroll 4
        for (int i = 0; i < kBases; ++i) {
            bases[i] += aStep;
            asm("" : "+r"(bases[i]));
        }
    }

    if (task.columns - first < kColumns) {
        // A copy, so that the sums themselves never need an address and stay in registers.
        V copy[kRows][kVectors];
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) copy[r][v] = sums[r][v];
        finishPartial(task, row, first, kRows, reinterpret_cast<const float*>(copy), kColumns);
        return;
    }
    float* c = task.c + row * task.cStride + first;
    const auto store = [&](auto finished) __attribute__((always_inline)) {
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) {
                const V value = finished(sums[r][v], r, v);
                std::memcpy(c + r * task.cStride + v * kWidth, &value, sizeof value);
            }
    };
    const auto load = [](const float* source) __attribute__((always_inline)) {
        V value;
        std::memcpy(&value, source, sizeof value);
        return value;
    };
    if (task.part == Part::first) {
        store([](V sum, int, int) __attribute__((always_inline)) { return sum; });
        return;
    }
    if (task.part != Part::only) {
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) sums[r][v] += load(c + r * task.cStride + v * kWidth);
        if (task.part == Part::middle) {
            store([](V sum, int, int) __attribute__((always_inline)) { return sum; });
            return;
        }
    }
    V bias[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) bias[v] = task.bias ? load(task.bias + first + v * kWidth) : V{};
    const float alpha = task.alpha;
    if (task.residual) {
        const float* residual = task.residual + row * task.residualStride + first;
        store([&](V sum, int r, int v) __attribute__((always_inline)) {
            return sum * alpha + bias[v] + load(residual + r * task.residualStride + v * kWidth);
        });
    } else {
        store([&](V sum, int, int v) __attribute__((always_inline)) { return sum * alpha + bias[v]; });
    }
}

template <class V, int kRows, int kVectors>
TCOMPRESS_INLINE void multiplyRows(const PanelTask& task, std::int64_t row) {
    constexpr int kWidth = static_cast<int>(sizeof(V) / sizeof(float));
    constexpr int kColumns = kWidth * kVectors;
    std::int64_t first = 0;
    for (; first + kColumns <= task.columns; first += kColumns)
        multiplyBlock<V, kRows, kVectors>(task, row, first);
    // What is left vector by vector, so that only the last columns are finished element by element.
    for (; first < task.columns; first += kWidth) multiplyBlock<V, kRows, 1>(task, row, first);
}

}  // namespace detail

}  // namespace tcompress::kernels
