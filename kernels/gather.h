#pragma once
// Selection by index along one axis.

#include <cstdint>
#include <span>

#include "kernels/quantize.h"
#include "lib/tensor/dtype.h"

namespace tcompress::kernels {

/// y[o, i, :] = x[o, indices[i], :] of x[outer, axis, innerBytes bytes]. Negative indices count from the end.
/// Throws KernelError with the index and the axis size when one is out of range (before anything is written).
struct Gather {
    const void* x = nullptr;
    std::int64_t outer = 1, axis = 0, innerBytes = 0;
    std::span<const std::int64_t> indices;
    void* y = nullptr;
};
void gather(const Gather& params);

/// Rows of an embedding table that is stored quantized, dequantized on the way: y[i, :] =
/// dequantize(x[indices[i], :]). x is [axis, inner] with inner a whole number of bytes; scales: one, or one a
/// row.
struct GatherDequantize {
    const void* x = nullptr;
    DType type = DType::int8;
    std::int64_t axis = 0, inner = 0;
    std::span<const float> scales;
    const void* zeroPoints = nullptr;  // of `type`, as many as scales; null = zeros
    std::span<const std::int64_t> indices;
    float* y = nullptr;
};
void gather(const GatherDequantize& params);

}  // namespace tcompress::kernels
