#pragma once
// An embedding table stored as codebook numbers: a look-up gathers the numbers of its rows, unpacks them, and
// gathers the entries. Standard operators of opset 11 and later.
//
//   Gather(table, ids)  →  Gather(codebook, Cast(unpacked Gather(numbers, ids))) → Reshape [ids…, row length]

#include <string>

#include "lib/ir/edit.h"
#include "passes/quantize/codebook.h"
#include "passes/quantize/packed_codes.h"

namespace tcompress::passes {

class CodebookTable {
  public:
    /// Adds the initializers. `codes`: [rows, rowLength / dimension].
    CodebookTable(ir::Edit& edit, const std::string& name, const Codebook& codebook,
                  std::span<const std::uint16_t> codes, std::int64_t rows);

    /// The decoded rows of indices of a known rank.
    ir::Value* rows(ir::Value* indices, std::int64_t indexRank);

    /// Bytes of the numbers of `rows` rows; those of the codebook come once.
    static std::int64_t sizeBytes(std::int64_t dimension, std::int64_t size, std::int64_t rows,
                                  std::int64_t rowLength);
    static std::int64_t codebookBytes(std::int64_t dimension, std::int64_t size);

  private:
    ir::Edit& edit_;
    std::int64_t pieces_;
    std::int64_t rowLength_;
    PackedCodes numbers_;
    ir::Value* entries_;  ///< float16 [size, dimension]
};

}  // namespace tcompress::passes
