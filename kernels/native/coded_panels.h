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

/// The same panel of widened codes (kWidenedWords), written to target: one group for each four of its k.
CodedPanel widened(CodedPanel panel, int bits, std::uint32_t* target);

/// alpha, bias, activation and residual of some rows of C from `column` on, at most a panel's columns; `sums`
/// are [rows][kPanelColumns].
void finishPanel(const CodedMatmul& params, std::int64_t row, std::int64_t rows, std::int64_t column,
                 const float* sums);

}  // namespace tcompress::kernels
