#pragma once
#include "kernels/conv.h"

namespace tcompress::kernels {

/// As the definition says, summed in float64.
void convolutionReference(const Convolution& params);

}  // namespace tcompress::kernels
