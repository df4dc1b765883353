#pragma once
// The sum of two tensors of 8-bit codes, as a code: DequantizeLinear twice, Add, QuantizeLinear.

#include <cstdint>

#include "kernels/matmul_int8.h"

namespace tcompress::kernels {

/// y[i] = code(value(a[i]) + value(b[i])). Rounding multiplies by 1 / scale: what lies within float rounding
/// of a tie may go either way.
struct AddCodes {
    const void *a = nullptr, *b = nullptr;
    Int8Code aCode, bCode, yCode;
    std::int64_t count = 0;
    void* y = nullptr;
};
void addCodes(const AddCodes& params);

}  // namespace tcompress::kernels
