#pragma once
// Convolutions whose windows lie side by side, as a vision transformer cuts its patches: a matrix product.

#include <optional>
#include <string>

#include "kernels/conv.h"

namespace tcompress::kernels {

std::optional<std::string> refusePatches(const Convolution& params);
void convolutionPatches(const Convolution& params);

}  // namespace tcompress::kernels
