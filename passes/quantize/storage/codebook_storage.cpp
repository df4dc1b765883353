#include "passes/quantize/storage/codebook_storage.h"

#include <algorithm>
#include <bit>

#include "lib/support/check.h"
#include "lib/ir/emit.h"

namespace tcompress::passes {
namespace {

int bitsFor(std::int64_t size) {
    TCOMPRESS_CHECK(size > 1 && std::has_single_bit(static_cast<std::uint64_t>(size)),
                    "a codebook has a power of two of entries");
    return std::countr_zero(static_cast<std::uint64_t>(size));
}

ir::Value* halves(ir::Edit& edit, const std::string& name, const Shape& shape,
                  const std::vector<float>& values) {
    return edit.addInitializer(
        name, convert(Tensor::of<float>(shape, std::span<const float>(values)), DType::float16));
}

ir::Value* addStage(ir::Edit& edit, const std::string& name, const CodebookMatrix& matrix, const CodebookStage& stage) {
    const Shape shape = matrix.books > 1       ? Shape{matrix.books, matrix.size}
                        : matrix.dimension > 1 ? Shape{matrix.size, matrix.dimension}
                                               : Shape{matrix.size};
    return halves(edit, name + "_codebook", shape, stage.entries);
}

/// Numbers of a channel as they are stored: of whole groups, where there are several.
std::int64_t storedPieces(const CodebookMatrix& matrix) {
    return matrix.blocks() > 1 ? matrix.blocks() * matrix.block / matrix.dimension : matrix.pieces();
}

/// With 0 at the end of channels whose last group is not full.
std::vector<std::uint16_t> storedCodes(const CodebookMatrix& matrix, const CodebookStage& stage) {
    const auto stored = static_cast<std::size_t>(storedPieces(matrix));
    const auto given = static_cast<std::size_t>(matrix.pieces());
    std::vector<std::uint16_t> codes(static_cast<std::size_t>(matrix.channels) * stored);
    for (std::size_t channel = 0; channel < static_cast<std::size_t>(matrix.channels); ++channel)
        std::copy_n(stage.codes.begin() + static_cast<std::ptrdiff_t>(channel * given), given,
                    codes.begin() + static_cast<std::ptrdiff_t>(channel * stored));
    return codes;
}

}  // namespace

CodebookStorage::CodebookStorage(ir::Edit& edit, const std::string& name, const CodebookMatrix& matrix,
                                 std::vector<ir::Value*> entries)
    : edit_(edit),
      channels_(matrix.channels),
      inputs_(matrix.inputs),
      dimension_(matrix.dimension),
      books_(matrix.books),
      block_(matrix.block),
      blocks_(matrix.blocks()),
      pieces_(storedPieces(matrix)),
      entries_(std::move(entries)) {
    const bool areGiven = !entries_.empty();
    for (const CodebookStage& stage : matrix.stages) {
        numbers_.emplace_back(edit, name + "_numbers", bitsFor(matrix.size), storedCodes(matrix, stage),
                              channels_);
        if (!areGiven) entries_.push_back(addStage(edit, name, matrix, stage));
    }
    if (blocks_ > 0)
        scales_ = halves(edit, name + "_scale", blocks_ > 1 ? Shape{channels_, blocks_, 1} : Shape{channels_, 1},
                         matrix.scales);
}

std::vector<ir::Value*> CodebookStorage::addEntries(ir::Edit& edit, const std::string& name,
                                                    const CodebookMatrix& matrix) {
    std::vector<ir::Value*> entries;
    for (const CodebookStage& stage : matrix.stages) entries.push_back(addStage(edit, name, matrix, stage));
    return entries;
}

std::int64_t CodebookStorage::sizeBytes(std::int64_t dimension, std::int64_t size, std::int64_t channels,
                                        std::int64_t inputs) {
    return PackedCodes::sizeBytes(bitsFor(size), channels, inputs / dimension);
}

std::int64_t CodebookStorage::codebookBytes(std::int64_t dimension, std::int64_t size) {
    return dimension * size * 2;
}

ir::Value* CodebookStorage::decoded(const Numbers& numbers, ir::Value* scales,
                                    std::vector<std::int64_t> leading) {
    const auto reshaped = [&](ir::Value* value, std::initializer_list<std::int64_t> last) {
        std::vector<std::int64_t> shape = leading;
        shape.insert(shape.end(), last);
        return emit(edit_, "Reshape", {value, emitIntegers(edit_, shape)});
    };
    ir::Value* result = nullptr;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        ir::Value* number = numbers[i];
        if (numbers_[i].entries() != pieces_) number = emitSliceLast(edit_, number, 0, pieces_);
        number = emitCast(edit_, number, DType::int32);
        ir::Value* entries = emitCast(edit_, entries_[i], DType::float32);
        ir::Value* part =
            books_ > 1 ? emit(edit_, "GatherElements", {entries, number}, {{"axis", std::int64_t{1}}})
                       : emit(edit_, "Gather", {entries, number});
        result = result == nullptr ? part : emit(edit_, "Add", {result, part});
    }
    if (blocks_ < 2) {
        if (dimension_ > 1) result = reshaped(result, {inputs_});
        return scales == nullptr ? result : emit(edit_, "Mul", {result, scales});
    }
    const std::int64_t width = blocks_ * block_;
    result = reshaped(emit(edit_, "Mul", {reshaped(result, {blocks_, block_}), scales}), {width});
    return width == inputs_ ? result : emitSliceLast(edit_, result, 0, inputs_);
}

ir::Value* CodebookStorage::all() {
    Numbers numbers;
    for (PackedCodes& packed : numbers_) numbers.push_back(packed.all());
    ir::Value* scales = scales_ == nullptr ? nullptr : emitCast(edit_, scales_, DType::float32);
    return decoded(numbers, scales, {channels_});
}

ir::Value* CodebookStorage::rows(ir::Value* indices, std::int64_t indexRank) {
    TCOMPRESS_CHECK(books_ == 1, "rows of a table share their codebook");
    Numbers numbers;
    for (PackedCodes& packed : numbers_) numbers.push_back(packed.rows(indices, indexRank));
    ir::Value* scales = nullptr;
    if (scales_ != nullptr)
        scales = emitCast(edit_, emit(edit_, "Gather", {scales_, indices}), DType::float32);
    // Leading dimensions are the indices', which Reshape copies where the new shape says 0.
    return decoded(numbers, scales, std::vector<std::int64_t>(static_cast<std::size_t>(indexRank), 0));
}

}  // namespace tcompress::passes
