#pragma once
// The float32 matrix product on our own kernels: tiles over rows and columns, K in parts that fit the first
// caches.

#include "kernels/matmul.h"

namespace tcompress::kernels {

void matmulNative(const PackedMatmul& params);
void matmulNative(const BatchedMatmul& params);

/// c = activation(c) + residual on [rows, columns], after a product whose kernel has done alpha and bias.
void finishRows(Activation activation, float* c, std::int64_t cStride, const float* residual,
                std::int64_t residualStride, std::int64_t rows, std::int64_t columns);

}  // namespace tcompress::kernels
