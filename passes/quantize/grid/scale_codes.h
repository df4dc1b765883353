#pragma once
// Double quantization: the scales of groups are themselves stored as 8-bit codes, with one float32 unit for each
// 256 of them in the order of the tensor [outer, blocks, inner].
//
//     scale = code · unit,   unit = the largest |scale| of the 256 / 255 (uint8), / 127 where scales have signs
//                            (int8: full-range symmetric rules)
//
// Codes of the weights are rounded again against the scales as they are stored, so that what a scale loses costs
// little: at 4 bits and groups of 32 a weight takes 0.25 bits less.
//
// Source: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", section 3.

#include <cstdint>
#include <span>
#include <string>

#include "lib/ir/edit.h"
#include "passes/quantize/grid/group_quantizer.h"

namespace tcompress::passes {

inline constexpr std::int64_t kScalesPerUnit = 256;

/// Replaces float32 scales by scales that codes and units give (QuantizedWeights::scaleCodes, scaleUnits), and
/// chooses the codes of the weights again. `weights`: what was quantized.
void encodeScales(QuantizedWeights& quantized, std::span<const float> weights);

/// The scales as initializers and, where they are not stored as float32, the operators that make them:
/// float32 of `shape`, which holds the scales in their order.
ir::Value* storedScales(ir::Edit& edit, const std::string& name, const Shape& shape,
                        const QuantizedWeights& quantized);

}  // namespace tcompress::passes
