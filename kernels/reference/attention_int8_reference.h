#pragma once
#include "kernels/attention_int8.h"

namespace tcompress::kernels {

/// By the definition, in double.
void attentionInt8Reference(const Int8Attention& params);

}  // namespace tcompress::kernels
