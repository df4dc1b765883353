#pragma once
#include "kernels/attention.h"

namespace tcompress::kernels {

/// As the definition says, one query at a time, in float64.
void attentionReference(const Attention& params);

}  // namespace tcompress::kernels
