#pragma once
// An embedding table stored as quantized rows: a look-up gathers the stored rows first and dequantizes only
// those, never the table. Standard operators of opset 11 and later.
//
//   Gather(table, ids)   →   Gather(codes, ids) → [unpack nibbles] → Cast → [Sub zero points] ─┐
//                            Gather(scales, ids) → [Cast] ────────────────────────────────── Mul → rows
//
// A stored row is its codes followed by the zero points of its blocks, so that one look-up fetches both.
// Codes of less than 8 bits are packed (packed_codes.h). (There is no Gather for int4 tensors in ONNX
// Runtime.)

#include <optional>
#include <string>
#include <vector>

#include "lib/analysis/transformer_view.h"
#include "lib/ir/edit.h"
#include "passes/quantize/grid/group_quantizer.h"
#include "passes/quantize/storage/packed_codes.h"

namespace tcompress::passes {

class QuantizedTable {
  public:
    /// Adds the initializers. `table` has layout [rows, row length, 1]; `name` is the float table's.
    QuantizedTable(ir::Edit& edit, const std::string& name, const QuantizedWeights& table);

    /// Why a Gather cannot read such a table of `bits` bits; empty when it can. `blocks`: groups in a row.
    static std::string refusal(const ir::Node& gather, int bits, std::int64_t blocks);

    /// Makes the Gather read this table; its users get the dequantized rows, which are returned.
    ir::Value* readBy(ir::Node& gather);
    /// The dequantized rows of indices of a known rank.
    ir::Value* rows(ir::Value* indices, std::int64_t indexRank);

    /// The stored rows of an 8-bit table.
    ir::Value* codes() const;

    /// Bytes of the codes, zero points and scales of `rows` rows.
    static std::int64_t sizeBytes(const QuantizationRule& rule, std::int64_t rows, std::int64_t rowLength,
                                  std::int64_t block);

  private:
    ir::Value* lookedUp(ir::Value* indices, std::int64_t indexRank, ir::Node* gather);
    ir::Value* gathered(ir::Value* groups, ir::Value* indices);
    ir::Value* dequantized(ir::Value* real, ir::Value* scales, ir::Value* indices, std::int64_t indexRank);

    ir::Edit& edit_;
    kernels::QuantizationLayout layout_;
    QuantizationRule rule_;
    std::int64_t entries_ = 0;           ///< in a row: whole blocks of codes, then zero points
    ir::Value* codes_ = nullptr;         ///< 8 bits
    std::optional<PackedCodes> packed_;  ///< fewer
    ir::Value* scales_ = nullptr;
    ir::Value* realZeros_ = nullptr;  ///< asymmetric codes of 1 bit
    /// Nodes that read the output of the Gather that readBy was given.
    std::vector<const ir::Node*> readers_;
};

}  // namespace tcompress::passes
