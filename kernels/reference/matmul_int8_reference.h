#pragma once
#include "kernels/matmul_int8.h"

namespace tcompress::kernels {

/// As the definition says, in 32-bit integers that wrap around.
void matmulInt8Reference(const Int8Matmul& params);
void matmulInt8Reference(const ScaledInt8Matmul& params);

}  // namespace tcompress::kernels
