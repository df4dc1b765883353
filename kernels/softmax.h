#pragma once
// Softmax and LogSoftmax on float32, with the maximum subtracted first. A row of only −inf gives zeros when
// masked (an attention row with nothing to see) and NaN otherwise, as IEEE arithmetic says.

#include <cstdint>
#include <vector>

namespace tcompress::kernels {

enum class SoftmaxKind { softmax, logSoftmax };

/// Over the middle axis of x[outer, axis, inner]; inner = 1 is the fast case. y may be x.
struct Softmax {
    SoftmaxKind kind = SoftmaxKind::softmax;
    const float* x = nullptr;
    float* y = nullptr;
    std::int64_t outer = 0, axis = 0, inner = 1;
};
void softmax(const Softmax& params);

/// softmax(scale · x + mask) over the last axis of a dense x[rowShape..., columns]. The mask is added; its
/// row for the index i of rowShape starts at Σ i[d] · maskStrides[d], its columns are maskColumnStride apart
/// (0 = broadcast). Rows that are −inf throughout become zeros.
struct MaskedSoftmax {
    const float* x = nullptr;
    float* y = nullptr;
    std::vector<std::int64_t> rowShape;
    std::int64_t columns = 0;
    float scale = 1.0F;
    const float* mask = nullptr;
    std::vector<std::int64_t> maskStrides;
    std::int64_t maskColumnStride = 1;
};
void softmax(const MaskedSoftmax& params);

}  // namespace tcompress::kernels
