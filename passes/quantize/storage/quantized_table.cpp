#include "passes/quantize/storage/quantized_table.h"

#include <fmt/core.h>

#include <algorithm>

#include "lib/support/check.h"
#include "lib/support/parallel.h"
#include "lib/ir/emit.h"

namespace tcompress::passes {
namespace {

/// What is added to codes: symmetric ones of 8 bits are stored signed.
int rowOffset(const QuantizationRule& rule) { return rule.bits == 8 ? 0 : storedOffset(rule); }

bool hasStoredZeros(const QuantizationRule& rule) {
    return rule.symmetry == Symmetry::asymmetric && rule.bits > 1;
}

Packing packingOf(const QuantizationRule& rule) {
    return isTernary(rule) ? Packing::trits : Packing::fields;
}

/// Codes of a row in whole blocks (the last one padded with zero codes) and, where there are any, zero
/// points.
std::int64_t rowEntries(const QuantizationRule& rule, std::int64_t rowLength, std::int64_t block) {
    const std::int64_t blocks = (rowLength + block - 1) / block;
    return blocks * block + (hasStoredZeros(rule) ? blocks : 0);
}

/// A row's codes, padded to whole blocks, and its zero points behind them, from entry `first` on.
void storedRow(const QuantizedWeights& table, std::int64_t row, std::int64_t first,
               std::span<std::uint16_t> target) {
    const kernels::QuantizationLayout& layout = table.layout;
    const std::int64_t blocks = layout.blocks(), width = blocks * layout.block;
    const int offset = rowOffset(table.rule);
    const std::uint8_t* codes = table.codes.data() + row * layout.axis;
    const std::int64_t end = first + std::ssize(target);
    std::int64_t i = first;
    for (; i < std::min(end, layout.axis); ++i)
        target[static_cast<std::size_t>(i - first)] = static_cast<std::uint8_t>(codes[i] + offset);
    for (; i < std::min(end, width); ++i) target[static_cast<std::size_t>(i - first)] = 0;
    for (; i < end; ++i)
        target[static_cast<std::size_t>(i - first)] =
            table.zeroPoints[static_cast<std::size_t>(row * blocks + i - width)];
}

/// 8-bit rows, as int8 when they are symmetric.
Tensor byteRows(const QuantizedWeights& table, std::int64_t entries) {
    Tensor tensor(table.zeroPoints.empty() ? DType::int8 : DType::uint8, {table.layout.outer, entries});
    auto* target = reinterpret_cast<std::uint8_t*>(tensor.mutableBytes().data());
    constexpr std::int64_t kRows = 64;
    parallelRanges(table.layout.outer, kRows, [&](std::int64_t begin, std::int64_t end) {
        std::vector<std::uint16_t> codes(static_cast<std::size_t>(entries));
        for (std::int64_t row = begin; row < end; ++row) {
            storedRow(table, row, 0, codes);
            std::transform(codes.begin(), codes.end(), target + row * entries,
                           [](std::uint16_t code) { return static_cast<std::uint8_t>(code); });
        }
    });
    return tensor;
}

}  // namespace

QuantizedTable::QuantizedTable(ir::Edit& edit, const std::string& name, const QuantizedWeights& table)
    : edit_(edit), layout_(table.layout), rule_(table.rule) {
    TCOMPRESS_CHECK(layout_.inner == 1, "a table is quantized along its rows");
    const std::int64_t blocks = layout_.blocks();
    entries_ = rowEntries(rule_, layout_.axis, layout_.block);
    if (rule_.bits == 8)
        codes_ = edit.addInitializer(name + "_quantized", byteRows(table, entries_));
    else
        packed_.emplace(
            edit, name + "_quantized", rule_.bits, layout_.outer, entries_,
            [&](std::int64_t row, std::int64_t first, std::span<std::uint16_t> codes) {
                storedRow(table, row, first, codes);
            },
            packingOf(rule_));
    Shape groupShape{layout_.outer, blocks};
    if (blocks > 1) groupShape.push_back(1);
    const auto stored = [&](const char* suffix, std::span<const float> values) {
        return edit.addInitializer(name + suffix,
                                   convert(Tensor::of<float>(groupShape, values), rule_.scaleType));
    };
    scales_ = stored("_scale", table.scales);
    if (!table.realZeros.empty()) realZeros_ = stored("_zero_point", table.realZeros);
}

std::string QuantizedTable::refusal(const ir::Node& gather, int bits, std::int64_t blocks) {
    if (!gather.is("Gather")) return fmt::format("{} looks its rows up inside", gather.opType());
    if (gather.attributeInt("axis", 0) != 0) return "its Gather does not read rows";
    if ((blocks > 1 || bits < 8) && !gather.input(1)->shape()) return "the rank of its indices is not known";
    return {};
}

std::int64_t QuantizedTable::sizeBytes(const QuantizationRule& rule, std::int64_t rows,
                                       std::int64_t rowLength, std::int64_t block) {
    const std::int64_t blocks = (rowLength + block - 1) / block;
    const std::int64_t reals = rule.symmetry == Symmetry::asymmetric && rule.bits == 1 ? 2 : 1;
    return PackedCodes::sizeBytes(rule.bits, rows, rowEntries(rule, rowLength, block), packingOf(rule)) +
           reals * rows * blocks * bitsPerElement(rule.scaleType) / 8;
}

ir::Value* QuantizedTable::codes() const {
    TCOMPRESS_CHECK(codes_ != nullptr, "a packed table has no rows of whole bytes");
    return codes_;
}

/// Numbers of the groups of the rows: float32.
ir::Value* QuantizedTable::gathered(ir::Value* groups, ir::Value* indices) {
    ir::Value* rows = emit(edit_, "Gather", {groups, indices});
    return rule_.scaleType == DType::float32 ? rows : emitCast(edit_, rows, DType::float32);
}

ir::Value* QuantizedTable::dequantized(ir::Value* real, ir::Value* scales, ir::Value* indices,
                                       std::int64_t indexRank) {
    const std::int64_t blocks = layout_.blocks();
    const std::int64_t width = blocks * layout_.block;
    const std::int64_t unpackedEntries = packed_ ? packed_->entries() : entries_;
    ir::Value* zero = nullptr;
    const bool storedZeros = hasStoredZeros(rule_);
    if (storedZeros) zero = emitSliceLast(edit_, real, width, entries_);
    if (unpackedEntries != width) real = emitSliceLast(edit_, real, 0, width);
    if (realZeros_ != nullptr)
        zero = gathered(realZeros_, indices);
    else if (rule_.bits == 1)
        zero = edit_.addInitializer("offset", Tensor::scalar<float>(0.5F));
    else if (const int offset = rowOffset(rule_); offset != 0)
        zero = edit_.addInitializer("offset", Tensor::scalar<float>(static_cast<float>(offset)));
    // Leading dimensions are the indices', which Reshape copies where the new shape says 0.
    std::vector<std::int64_t> leading(static_cast<std::size_t>(indexRank), 0);
    if (blocks > 1) {
        const auto split = [&](ir::Value* value, std::int64_t last) {
            std::vector<std::int64_t> shape = leading;
            shape.insert(shape.end(), {blocks, last});
            return emit(edit_, "Reshape", {value, emitIntegers(edit_, shape)});
        };
        real = split(real, layout_.block);
        if (storedZeros) zero = split(zero, 1);
    }
    if (zero != nullptr) real = emit(edit_, "Sub", {real, zero});
    real = emit(edit_, "Mul", {real, scales});
    if (blocks > 1) {
        std::vector<std::int64_t> shape = leading;
        shape.push_back(width);
        real = emit(edit_, "Reshape", {real, emitIntegers(edit_, shape)});
        if (width != layout_.axis) real = emitSliceLast(edit_, real, 0, layout_.axis);
    }
    return real;
}

ir::Value* QuantizedTable::lookedUp(ir::Value* indices, std::int64_t indexRank, ir::Node* gather) {
    ir::Value* scales = gathered(scales_, indices);
    ir::Value* real = nullptr;
    if (packed_) {
        real = packed_->rows(indices, indexRank, gather);
        readers_ = packed_->firstReaders();
    } else {
        if (gather != nullptr) edit_.replaceInput(gather, 0, codes_);
        ir::Value* codes = gather != nullptr ? gather->output() : emit(edit_, "Gather", {codes_, indices});
        real = emitCast(edit_, codes, DType::float32);
        readers_ = {real->producer()};
    }
    return dequantized(real, scales, indices, indexRank);
}

ir::Value* QuantizedTable::rows(ir::Value* indices, std::int64_t indexRank) {
    return lookedUp(indices, indexRank, nullptr);
}

ir::Value* QuantizedTable::readBy(ir::Node& gather) {
    ir::Value* rows = gather.output();
    const auto shape = gather.input(1)->shape();
    const auto rank = shape ? static_cast<std::int64_t>(shape->size()) : 0;
    ir::Value* result = lookedUp(gather.input(1), rank, &gather);
    edit_.replaceAllUses(rows, result, readers_);
    return result;
}

}  // namespace tcompress::passes
