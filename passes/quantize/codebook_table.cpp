#include "passes/quantize/codebook_table.h"

#include <bit>

#include "lib/support/check.h"
#include "passes/support/emit.h"

namespace tcompress::passes {
namespace {

int bitsFor(std::int64_t size) {
    TCOMPRESS_CHECK(size > 1 && std::has_single_bit(static_cast<std::uint64_t>(size)),
                    "a codebook has a power of two of entries");
    return std::countr_zero(static_cast<std::uint64_t>(size));
}

}  // namespace

CodebookTable::CodebookTable(ir::Edit& edit, const std::string& name, const Codebook& codebook,
                             std::span<const std::uint16_t> codes, std::int64_t rows)
    : edit_(edit),
      pieces_(static_cast<std::int64_t>(codes.size()) / rows),
      rowLength_(pieces_ * codebook.dimension),
      numbers_(edit, name + "_numbers", bitsFor(codebook.size), codes, rows),
      entries_(edit.addInitializer(name + "_codebook",
                                   convert(Tensor::of<float>({codebook.size, codebook.dimension},
                                                             std::span<const float>(codebook.entries)),
                                           DType::float16))) {}

ir::Value* CodebookTable::rows(ir::Value* indices, std::int64_t indexRank) {
    ir::Value* numbers = numbers_.rows(indices, indexRank);
    if (numbers_.entries() != pieces_) numbers = emitSliceLast(edit_, numbers, 0, pieces_);
    ir::Value* entries = emit(edit_, "Gather", {entries_, emitCast(edit_, numbers, DType::int32)});
    // Leading dimensions are the indices', which Reshape copies where the new shape says 0.
    std::vector<std::int64_t> shape(static_cast<std::size_t>(indexRank), 0);
    shape.push_back(rowLength_);
    return emit(edit_, "Reshape", {emitCast(edit_, entries, DType::float32), emitIntegers(edit_, shape)});
}

std::int64_t CodebookTable::sizeBytes(std::int64_t dimension, std::int64_t size, std::int64_t rows,
                                      std::int64_t rowLength) {
    return PackedCodes::sizeBytes(bitsFor(size), rows, rowLength / dimension);
}

std::int64_t CodebookTable::codebookBytes(std::int64_t dimension, std::int64_t size) {
    return dimension * size * 2;
}

}  // namespace tcompress::passes
