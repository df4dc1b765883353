#pragma once
// Which weight a quantization scale or zero point belongs to. Scales are read in many ways, by
// DequantizeLinear, by MatMulInteger and the products behind it, beside a look-up of integer rows, so the
// way is followed instead of a name.

#include "lib/ir/graph.h"

namespace tcompress::analysis {

/// The stored weight that `constant` is a scale or zero point of; null when it is none.
const ir::Value* scaledWeight(const ir::Value& constant);

}  // namespace tcompress::analysis
