#pragma once
// Models that are quantized already, back in float32, for passes that are to quantize them anew:
//
//   MatMul(x, DequantizeLinear(codes))              →  MatMul(x, W)       any computed constant: Cast, Mul, unpacked bits
//   Cast(MatMulInteger(quantized x, codes)) · scales →  MatMul(x, W)      likewise MatMulIntegerToFloat, DynamicQuantizeMatMul
//   MatMulNBits(x, bytes)                           →  MatMul(x, W)
//   rows dequantized behind a look-up               →  Gather(table, ids)
//   DequantizeLinear(QuantizeLinear(x))             →  x
//
// Weights and tables get the values that they stood for, bit for bit, computed by the executor; what rounding has
// lost stays lost. Not handled: products between codes (QLinearMatMul), integer convolutions, sub-graphs.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "lib/pipeline/pass.h"

namespace tcompress::passes {

/// Which sites are restored; both lists empty: everything, with all quantizers of activations.
struct FloatFormQuery {
    std::vector<std::string> targets, ignore;
};

struct FloatFormCounts {
    std::size_t weights = 0, tables = 0, quantizers = 0;
};
FloatFormCounts restoreFloatForm(ir::Model& model, const pipeline::PassContext& context, const FloatFormQuery& query,
                                 std::string_view pass);

/// The same as the first step of a pass whose option `requantize` is on, with a note in the report.
inline constexpr const char* kRequantizeHelp =
    "decode what is quantized already and quantize it anew, with the quantizers of activations around it gone; otherwise "
    "it is left alone, and the report says why";
void restoreToRequantize(ir::Model& model, const pipeline::PassContext& context, const FloatFormQuery& query,
                         std::string_view pass, pipeline::PassReport& report);

}  // namespace tcompress::passes
