#pragma once
// The loop all broadcasting operators share: rows of the innermost dimension, in tasks of a fixed number of
// elements.

#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/elementwise.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

constexpr std::int64_t kElementsOfTask = 16384;

/// Calls row(y offset, operand offsets, operand strides, count) for stretches of the innermost dimension that
/// cover the result once. Strides are those of the innermost dimension: 0 or a step.
template <std::size_t kOperands, class Row>
void forEachRow(const Broadcast& plan, const Row& row) {
    TCOMPRESS_CHECK(plan.strides.size() == kOperands, "broadcast plan of another number of operands");
    using Offsets = std::array<std::int64_t, kOperands>;
    const std::int64_t size = plan.size();
    if (size == 0) return;
    const std::size_t rank = plan.shape.size();
    const std::int64_t inner = rank == 0 ? 1 : plan.shape.back();
    Offsets innerStrides{};
    if (rank > 0)
        for (std::size_t i = 0; i < kOperands; ++i) innerStrides[i] = plan.strides[i].back();
    parallelRanges(size, kElementsOfTask, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t position = begin; position < end;) {
            const std::int64_t first = position % inner;
            const std::int64_t count = std::min(inner - first, end - position);
            Offsets offsets{};
            std::int64_t index = position / inner;
            for (std::size_t d = rank; d-- > 1; index /= plan.shape[d - 1])
                for (std::size_t i = 0; i < kOperands; ++i)
                    offsets[i] += index % plan.shape[d - 1] * plan.strides[i][d - 1];
            for (std::size_t i = 0; i < kOperands; ++i) offsets[i] += first * innerStrides[i];
            row(position, offsets, innerStrides, count);
            position += count;
        }
    });
}

}  // namespace tcompress::kernels
