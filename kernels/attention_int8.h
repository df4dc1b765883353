#pragma once
// Attention on 8-bit codes, as a QDQ model spells it: the products of queries and keys and of probabilities
// and values are exact integer products, and what lies between is float32 with a rounding to a code wherever
// the model has one. Heads are reached by strides. The scores of twelve queries exist at a time.

#include <cstdint>
#include <optional>
#include <span>

#include "kernels/attention.h"
#include "kernels/matmul_int8.h"
#include "kernels/table.h"

namespace tcompress::kernels {

/// out[b, h, i, :] = code(Σ_j p(i, j) · v[b, h', j, :]), p(i, j) = probabilityCode(softmax_j(score(i, j))),
/// score = maskedCode(scaledCode(scale · productCode(q·k)) + mask), h' = h · keyValueHeads / queryHeads.
/// Codes that are not given round nothing. Roundings multiply by 1 / scale: what lies within float rounding
/// of a tie may go either way.
struct Int8Attention {
    std::int64_t batch = 0, queryHeads = 0, keyValueHeads = 0;
    std::int64_t queryLength = 0, keyLength = 0, headSize = 0, valueHeadSize = 0;
    const void *q = nullptr, *k = nullptr, *v = nullptr;
    HeadStrides qStrides, kStrides, vStrides;
    Int8Code qCode, kCode, vCode;
    std::optional<Int8Code> productCode, scaledCode, maskedCode;
    float scale = 1.0F;
    /// mask[b · batch + h · head + i · row + j · maskColumnStride]; strides may be 0.
    const float* mask = nullptr;
    HeadStrides maskStrides;
    std::int64_t maskColumnStride = 1;
    Int8Code probabilityCode;
    std::optional<Int8Code> outCode;  // none: float32
    void* out = nullptr;
    HeadStrides outStrides;  // in elements
};
void attention(const Int8Attention& params);
std::span<const KernelRow<Int8Attention>> int8AttentionKernels();

}  // namespace tcompress::kernels
