#pragma once
// Codebook numbers in a graph: bytes, unpacked, looked up in the codebook, scaled. Standard operators of opset
// 11 and later, which runtimes fold where the whole matrix is read; of a table only the rows that are looked
// up are decoded.
//
//   numbers (packed_codes.h) → Cast → Gather(entries, ·)                      [→ Add the second codebook's]
//                                     GatherElements(entries, ·)               a codebook a channel
//   → Reshape [channels, blocks, block] → Mul scales → Reshape [channels, inputs]

#include <string>
#include <vector>

#include "lib/ir/edit.h"
#include "passes/quantize/codebook/codebook_matrix.h"
#include "passes/quantize/storage/packed_codes.h"

namespace tcompress::passes {

class CodebookStorage {
  public:
    /// Adds the initializers of the numbers and scales, and of the entries when none are given.
    CodebookStorage(ir::Edit& edit, const std::string& name, const CodebookMatrix& matrix,
                    std::vector<ir::Value*> entries = {});
    /// The entries of a matrix as initializers, one a stage: for all matrices that have the same.
    static std::vector<ir::Value*> addEntries(ir::Edit& edit, const std::string& name, const CodebookMatrix& matrix);

    /// float32 [channels, inputs].
    ir::Value* all();
    /// The channels that `indices` (of rank `indexRank`) name: [indices…, inputs]. Only with one book.
    ir::Value* rows(ir::Value* indices, std::int64_t indexRank);

    /// Bytes of the numbers of `channels` channels; those of a codebook come once.
    static std::int64_t sizeBytes(std::int64_t dimension, std::int64_t size, std::int64_t channels,
                                  std::int64_t inputs);
    static std::int64_t codebookBytes(std::int64_t dimension, std::int64_t size);

  private:
    using Numbers = std::vector<ir::Value*>;
    ir::Value* decoded(const Numbers& numbers, ir::Value* scales, std::vector<std::int64_t> leading);

    ir::Edit& edit_;
    std::int64_t channels_, inputs_, dimension_, books_, block_, blocks_, pieces_;
    std::vector<PackedCodes> numbers_;  ///< one a stage
    std::vector<ir::Value*> entries_;   ///< float16 [size], [books, size] or [size, dimension]
    ir::Value* scales_ = nullptr;       ///< float16 [channels, blocks, 1], [channels, 1] with one block
};

}  // namespace tcompress::passes
