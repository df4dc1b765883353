#pragma once
#include "kernels/matmul_coded.h"

namespace tcompress::kernels {

void matmulCodedNative(const CodedMatmul& params);

}  // namespace tcompress::kernels
