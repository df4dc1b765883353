#pragma once
// Rotary position embedding as exporters spell it out (Su et al., RoFormer, 2021), float32.

#include "kernels/elementwise.h"

namespace tcompress::kernels {

/// y = x · cosines + r · sines with r = −x[split:] followed by x[:split], along the last axis.
struct RotateHalves {
    /// x, cosines and sines, broadcast to y.
    Broadcast loop;
    std::int64_t size = 0;   // of x and of y along the last axis
    std::int64_t split = 0;  // ≤ size
    const float *x = nullptr, *cosines = nullptr, *sines = nullptr;
    float* y = nullptr;
};
void rotateHalves(const RotateHalves& params);

}  // namespace tcompress::kernels
