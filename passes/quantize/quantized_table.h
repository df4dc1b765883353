#pragma once
// An embedding table stored as quantized rows: a look-up gathers the stored rows first and dequantizes only
// those, never the table. Standard operators of opset 11 and later.
//
//   Gather(table, ids)   →   Gather(codes, ids) → [unpack nibbles] → Cast → [Sub zero points] ─┐
//                            Gather(scales, ids) → [Cast] ────────────────────────────────── Mul → rows
//
// A stored row is its codes followed by the zero points of its blocks, so that one Gather fetches both. With
// 4 bits two entries share a byte: byte i holds entry i in its low half and entry i + n/2 in its high half,
// so that unpacking is two shifts and a Concat. (There is no Gather for int4 tensors in ONNX Runtime.)

#include <string>
#include <vector>

#include "lib/analysis/transformer_view.h"
#include "lib/ir/edit.h"
#include "passes/quantize/group_quantizer.h"

namespace tcompress::passes {

class QuantizedTable {
  public:
    /// Adds the initializers. `table` has layout [rows, row length, 1]; `name` is the float table's.
    QuantizedTable(ir::Edit& edit, const std::string& name, const QuantizedWeights& table);

    /// Why a Gather cannot read such a table; empty when it can. `blocks`: groups in a row.
    static std::string refusal(const ir::Node& gather, std::int64_t blocks);

    /// Makes the Gather read this table; its users get the dequantized rows, which are returned.
    ir::Value* readBy(ir::Node& gather);

    /// The stored rows.
    ir::Value* codes() const { return codes_; }

  private:
    ir::Value* unpacked(ir::Value* packed);
    ir::Value* dequantized(ir::Value* codes, ir::Value* scales, std::int64_t indexRank);

    ir::Edit& edit_;
    kernels::QuantizationLayout layout_;
    QuantizationRule rule_;
    std::int64_t entries_ = 0;        ///< in a row, before packing: whole blocks of codes, then zero points
    std::int64_t storedEntries_ = 0;  ///< rounded up to even when packed
    ir::Value* codes_ = nullptr;
    ir::Value* scales_ = nullptr;
    std::vector<const ir::Node*> readers_;  ///< new nodes that read the stored rows of the current Gather
};

}  // namespace tcompress::passes
