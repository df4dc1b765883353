#pragma once
// Quantized weights for ONNX Runtime's own operators (domain com.microsoft): smaller graphs, and products
// with the integers themselves.
//
//   MatMul(x, W)        →  MatMulNBits(x, codes [out, blocks, block · bits / 8], scales, zero points)
//   Gather(table, ids)  →  Cast(GatherBlockQuantized(codes [rows, length · bits / 8], ids, scales, zero
//   points))
//
// Both want blocks of 16, 32, 64 … weights and 4- or 8-bit codes, low bits first, zero points packed
// likewise.

#include "lib/ir/edit.h"
#include "passes/quantize/grid/group_quantizer.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

/// Why the weight cannot take this form; empty when it can.
std::string contribRefusal(const TargetWeight& weight, const kernels::QuantizationLayout& layout);

/// Replaces all uses of the weight. `quantized` has the layout that contribRefusal accepted.
void storeForContrib(ir::Edit& edit, const TargetWeight& weight, const QuantizedWeights& quantized);

}  // namespace tcompress::passes
