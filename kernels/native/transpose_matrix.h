#pragma once
// Transposition of a matrix of 4-byte elements, through squares of 8 × 8 in registers.

#include <cstdint>

namespace tcompress::kernels {

/// y[j · yStride + i] = x[i · xStride + j] for i < rows, j < columns. Serial.
void transposeMatrix(const float* x, std::int64_t xStride, std::int64_t rows, std::int64_t columns, float* y,
                     std::int64_t yStride);
void transposeMatrix(const std::uint32_t* x, std::int64_t xStride, std::int64_t rows, std::int64_t columns,
                     std::uint32_t* y, std::int64_t yStride);

}  // namespace tcompress::kernels
