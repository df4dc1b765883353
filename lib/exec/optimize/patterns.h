#pragma once
// The rewrites of a plan, in the order in which optimize.cpp applies them. Each is one file.

#include "lib/exec/optimize/rewriter.h"

namespace tcompress::exec {

/// float16 and bfloat16 values become float32 ones.
void widenFloats(PlanGraph& graph);
/// Nodes with constant inputs become constants, except what would make a small table large. Dequantized matrices that
/// only products read can stay as they are stored, for the rewrites that multiply them so.
enum class StoredMatrices { keep, fold };
void foldConstants(PlanGraph& graph, StoredMatrices matrices);
/// Drops the nodes whose outputs are all constants now.
void eraseConstantNodes(PlanGraph& graph);
/// Dimensions that no input changes become constants.
void foldKnownShapes(PlanGraph& graph);
/// Identity, Dropout at inference, Cast to the same type, Concat of one part.
void removeIdentities(PlanGraph& graph);
/// Gather(Dequantize(table)) and Gather(Cast(table)): only the rows that are read are decoded.
void gatherBeforeDecoding(PlanGraph& graph);
/// Sub-graphs of element-wise operators that are GELU, SiLU, … become one node. Recognised by evaluation.
void fuseActivations(PlanGraph& graph);
/// LayerNormalization and RMS normalization spelled out.
void fuseNormalizations(PlanGraph& graph);
/// Rotary position embedding spelled out.
void fuseRotary(PlanGraph& graph);
/// DynamicQuantizeLinear → MatMulInteger → Cast → Mul becomes an 8-bit linear layer.
void fuseInt8Linears(PlanGraph& graph);
/// QuantizeLinear after an operator that only moves elements goes before it; pairs that undo each other vanish.
void moveQuantizationUp(PlanGraph& graph);
/// DequantizeLinear → MatMul or Gemm with 8-bit weights becomes an 8-bit linear layer that reads the codes.
void fuseQuantizedLinears(PlanGraph& graph);
/// MatMulNBits, and products with dequantized weights, become linear layers whose weights stay in their bits.
void fuseCodedLinears(PlanGraph& graph);
/// Element-wise operators between DequantizeLinear and QuantizeLinear become one table of 256 codes.
void tabulateCodes(PlanGraph& graph);
/// Add and LayerNormalization between DequantizeLinear and QuantizeLinear take and give codes.
void fuseCodedRows(PlanGraph& graph);
/// Attention between QuantizeLinear and DequantizeLinear pairs becomes one node on codes.
void fuseQuantizedAttention(PlanGraph& graph);
/// QuantizeLinear after an 8-bit linear layer becomes part of it. After the epilogues.
void absorbQuantization(PlanGraph& graph);
/// Gather(Shape(y), axis) asks an earlier value that has the axis.
void forwardShapes(PlanGraph& graph);
/// MatMul(scale, mask, Softmax, MatMul) with the transposes around it becomes attention.
void fuseAttention(PlanGraph& graph);
/// Query, key and value projections of the same input become one product.
void mergeProjections(PlanGraph& graph);
/// MatMul or Gemm with constant weights, bias, activation, residual become one linear layer; the last two also after
/// 8-bit linear layers and convolutions.
void fuseLinears(PlanGraph& graph);
void fuseEpilogues(PlanGraph& graph);

}  // namespace tcompress::exec
