#pragma once
// The inner loop of the float32 matrix product: a block of rows of A times one panel of B, held in registers.
// A panel is kPanelColumns columns of B stored row after row ([K][kPanelColumns]), so the loop over k reads
// it in order; A is read in place, one broadcast element a row. Loop structure after Goto and van de Geijn,
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
    std::int64_t aStride = 0;
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

/// kRows rows × kVectors vectors of V, starting at column `first` of the panel.
template <class V, int kRows, int kVectors>
TCOMPRESS_INLINE void multiplyBlock(const PanelTask& task, std::int64_t row, std::int64_t first) {
    constexpr int kWidth = static_cast<int>(sizeof(V) / sizeof(float));
    constexpr int kColumns = kWidth * kVectors;
    using Part = PanelTask::Part;
    V sums[kRows][kVectors];
    const float* a = task.a + row * task.aStride;
    float* c = task.c + row * task.cStride + first;
    const std::int64_t columns = task.columns - first;
    const bool whole = columns >= kColumns;
    const auto load = [&](V & value, const float* source, int vector) __attribute__((always_inline)) {
        if (whole) {
            std::memcpy(&value, source + vector * kWidth, sizeof value);
        } else {
            value = V{};
            const std::int64_t left = columns - vector * kWidth;
            for (int lane = 0; lane < kWidth; ++lane)
                if (lane < left) value[lane] = source[vector * kWidth + lane];
        }
    };
    if (task.part == Part::only || task.part == Part::first) {
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) sums[r][v] = V{};
    } else {
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kVectors; ++v) load(sums[r][v], c + r * task.cStride, v);
    }

    const float* b = task.panel + first;
    const std::int64_t aStride = task.aStride;
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
            const V element = a[r * aStride + k] - V{};  // x − 0 is x, so this is a plain broadcast
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) sums[r][v] += element * bRow[v];
        }
        b += panelStride;
    }

    const bool last = task.part == Part::only || task.part == Part::last;
    for (int v = 0; v < kVectors; ++v) {
        V bias{};
        if (last && task.bias) load(bias, task.bias + first, v);
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
            V value = sums[r][v];
            if (last) {
                value = value * task.alpha + bias;
                if (task.residual) {
                    V residual;
                    load(residual, task.residual + (row + r) * task.residualStride + first, v);
                    value += residual;
                }
            }
            float* target = c + r * task.cStride + v * kWidth;
            if (whole) {
                std::memcpy(target, &value, sizeof value);
            } else {
                const std::int64_t left = columns - v * kWidth;
                for (int lane = 0; lane < kWidth; ++lane)
                    if (lane < left) target[lane] = value[lane];
            }
        }
    }
}

template <class V, int kRows, int kVectors>
TCOMPRESS_INLINE void multiplyRows(const PanelTask& task, std::int64_t row) {
    constexpr int kColumns = static_cast<int>(sizeof(V) / sizeof(float)) * kVectors;
    for (std::int64_t first = 0; first < task.columns; first += kColumns)
        multiplyBlock<V, kRows, kVectors>(task, row, first);
}

}  // namespace detail

}  // namespace tcompress::kernels
