#pragma once
// What the products with coded weights share: panels of the weights, whole or in part, and the way from a
// panel's sums to C.

#include "kernels/matmul_coded.h"
#include "kernels/native/coded_kernel.h"

namespace tcompress::kernels {

/// `count` values of k from `begin` on, which starts a block or lies inside the one block of the part.
CodedPanel codedPanel(const PackedCodes& weights, std::int64_t index, std::int64_t begin, std::int64_t count);
inline CodedPanel codedPanel(const PackedCodes& weights, std::int64_t index) {
    return codedPanel(weights, index, 0, weights.k);
}

/// k that are decoded at a time: about `wanted` (a power of two from 16 on), in whole blocks or in whole
/// words of one long block.
std::int64_t partSizeOf(const PackedCodes& weights, std::int64_t wanted);

/// A panel of widened codes, one group for each four of its k: of 8 bits with the pairs, or with them between.
struct WidenedPanel {
    CodedPanel panel;
    const std::uint32_t* pairs = nullptr;  // null where they are crossed
};
/// Written to target, kWidenedWords for each group; beside separate pairs codes of 8 bits stay where they are.
/// Segments hold whole words.
WidenedPanel widened(const CodedPanel& panel, int bits, CodePairs pairs, std::int64_t groupsPerSegment,
                     std::uint32_t* target);

/// Sums of a part of C, panel after panel [rows][kPanelColumns] or, if null, in C, in units of each row
/// (null: 1).
struct PanelSums {
    std::int64_t firstRow = 0, rows = 0, firstColumn = 0, columns = 0;
    const float* sums = nullptr;
    const float* units = nullptr;
    std::int64_t unitStride = 0;
    enum class Before { nothing, inC } before = Before::nothing;  // where what they are added to is
};
/// C becomes the sums, to which others will be added.
void keepSums(const CodedMatmul& params, const PanelSums& sums);
/// The last sums, with alpha, bias, activation and residual.
void finishSums(const CodedMatmul& params, const PanelSums& sums);

}  // namespace tcompress::kernels
