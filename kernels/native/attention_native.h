#pragma once
#include "kernels/attention.h"

namespace tcompress::kernels {

void attentionNative(const Attention& params);

}  // namespace tcompress::kernels
