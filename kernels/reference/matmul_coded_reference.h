#pragma once
#include "kernels/matmul_coded.h"

namespace tcompress::kernels {

/// By the definition, in double.
void matmulCodedReference(const CodedMatmul& params);

}  // namespace tcompress::kernels
