#pragma once
#include "kernels/conv.h"

namespace tcompress::kernels::onednn {

std::optional<std::string> refuseConvolution(const Convolution& params);

/// One image and one piece of the channels a task; layouts are oneDNN's choice, reordered at both ends.
void convolution(const Convolution& params);

}  // namespace tcompress::kernels::onednn
