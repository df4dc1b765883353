#pragma once
// A product of strided rows and panels, small enough for one thread and for the caches: strips of rows, each past all
// panels.

#include <algorithm>
#include <cstdint>

#include "kernels/native/gemm_kernel.h"
#include "kernels/tiles.h"

namespace tcompress::kernels {

/// B as panels: `distance` elements from one to the next, rows `rowStride` apart.
struct PanelSequence {
    const float* first = nullptr;
    std::int64_t distance = 0, rowStride = kPanelColumns;
};

/// A[rows, k] by its strides.
struct StridedRows {
    const float* first = nullptr;
    std::int64_t stride = 0, step = 1;
};

/// c[rows, columns] = alpha · a · b, or c += a · b when `part` is middle.
inline void multiplyPanels(const StridedRows& a, std::int64_t rows, std::int64_t k, const PanelSequence& b,
                           std::int64_t columns, float* c, std::int64_t cStride, PanelTask::Part part,
                           float alpha = 1.0F) {
    constexpr std::int64_t kStrip = 12;
    const PanelKernel kernel = panelKernel();
    PanelTask task;
    task.aStride = a.stride;
    task.aStep = a.step;
    task.k = k;
    task.panelStride = b.rowStride;
    task.cStride = cStride;
    task.part = part;
    task.alpha = alpha;
    std::int64_t strips = ceilDivide(rows, kStrip);
    for (std::int64_t row = 0; row < rows; row += task.rows, --strips) {
        task.a = a.first + row * a.stride;
        task.rows = ceilDivide(rows - row, strips);
        for (std::int64_t column = 0; column < columns; column += kPanelColumns) {
            task.panel = b.first + column / kPanelColumns * b.distance;
            task.columns = std::min(kPanelColumns, columns - column);
            task.c = c + row * cStride + column;
            kernel(task);
        }
    }
}

}  // namespace tcompress::kernels
