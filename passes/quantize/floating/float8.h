#pragma once
// Weights as 8-bit floating point with a scale per output channel that makes its largest weight the type's
// largest number.
//
//   MatMul(x, W)        →  MatMul(x, DequantizeLinear(W as float8, scales))           opset 19
//   Gather(table, ids)  →  Gather(256 numbers, Gather(bytes, ids)) · Gather(scales, ids)
//
// The second form is for tables, because ONNX's runtimes have no Gather of float8 tensors.
//
// Source: Micikevicius et al. 2022, "FP8 Formats for Deep Learning".

#include "lib/ir/edit.h"
#include "lib/pipeline/pass.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

/// The opset that DequantizeLinear takes float8 from on.
inline constexpr std::int64_t kFloat8Opset = 19;

/// Replaces the weight by its float8 form (`type`: float8e4m3fn or float8e5m2) and reports its sites, or skips
/// them with the reason.
void storeAsFloat8(ir::Edit& edit, const TargetWeight& weight, DType type, pipeline::PassReport& report);

}  // namespace tcompress::passes
