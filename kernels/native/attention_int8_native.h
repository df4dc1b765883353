#pragma once
#include "kernels/attention_int8.h"

namespace tcompress::kernels {

void attentionInt8Native(const Int8Attention& params);

}  // namespace tcompress::kernels
