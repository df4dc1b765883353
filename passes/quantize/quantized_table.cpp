#include "passes/quantize/quantized_table.h"

#include <fmt/core.h>

#include "lib/support/check.h"
#include "passes/support/emit.h"

namespace tcompress::passes {
namespace {

constexpr int kPackedBits = 4;

/// Symmetric 4-bit codes are stored with this added, as unsigned halves.
constexpr int kNibbleOffset = 8;

/// Codes of whole blocks (the last one padded with zero codes), then zero points, one a byte.
std::vector<std::uint8_t> rowEntries(const QuantizedWeights& table, std::int64_t row, std::int64_t entries) {
    const kernels::QuantizationLayout& layout = table.layout;
    const int offset = table.zeroPoints.empty() && table.rule.bits == kPackedBits ? kNibbleOffset : 0;
    std::vector<std::uint8_t> result(static_cast<std::size_t>(entries));
    const std::uint8_t* codes = table.codes.data() + row * layout.axis;
    for (std::int64_t i = 0; i < layout.axis; ++i)
        result[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(codes[i] + offset);
    if (!table.zeroPoints.empty()) {
        const std::int64_t blocks = layout.blocks();
        for (std::int64_t block = 0; block < blocks; ++block)
            result[static_cast<std::size_t>(blocks * layout.block + block)] =
                table.zeroPoints[static_cast<std::size_t>(row * blocks + block)];
    }
    return result;
}

Tensor storedRows(const QuantizedWeights& table, std::int64_t entries, std::int64_t storedEntries) {
    const bool packed = table.rule.bits == kPackedBits;
    const bool isSigned = table.zeroPoints.empty() && !packed;
    const std::int64_t rows = table.layout.outer;
    const std::int64_t bytes = packed ? storedEntries / 2 : entries;
    Tensor tensor(isSigned ? DType::int8 : DType::uint8, {rows, bytes});
    auto* target = reinterpret_cast<std::uint8_t*>(tensor.mutableBytes().data());
    for (std::int64_t row = 0; row < rows; ++row, target += bytes) {
        const std::vector<std::uint8_t> values = rowEntries(table, row, packed ? storedEntries : entries);
        if (!packed) {
            std::copy(values.begin(), values.end(), target);
            continue;
        }
        for (std::int64_t i = 0; i < bytes; ++i)
            target[i] = static_cast<std::uint8_t>(values[static_cast<std::size_t>(i)] |
                                                  values[static_cast<std::size_t>(i + bytes)] << 4);
    }
    return tensor;
}

}  // namespace

QuantizedTable::QuantizedTable(ir::Edit& edit, const std::string& name, const QuantizedWeights& table)
    : edit_(edit), layout_(table.layout), rule_(table.rule) {
    TCOMPRESS_CHECK(layout_.inner == 1, "a table is quantized along its rows");
    const std::int64_t blocks = layout_.blocks();
    entries_ = blocks * layout_.block + (table.zeroPoints.empty() ? 0 : blocks);
    storedEntries_ = rule_.bits == kPackedBits ? (entries_ + 1) / 2 * 2 : entries_;
    codes_ = edit.addInitializer(name + "_quantized", storedRows(table, entries_, storedEntries_));
    Shape scaleShape{layout_.outer, blocks};
    if (blocks > 1) scaleShape.push_back(1);
    scales_ = edit.addInitializer(
        name + "_scale",
        convert(Tensor::of<float>(scaleShape, std::span<const float>(table.scales)), rule_.scaleType));
}

std::string QuantizedTable::refusal(const ir::Node& gather, std::int64_t blocks) {
    if (!gather.is("Gather")) return fmt::format("{} looks its rows up inside", gather.opType());
    if (gather.attributeInt("axis", 0) != 0) return "its Gather does not read rows";
    if (blocks > 1 && !gather.input(1)->shape()) return "the rank of its indices is not known";
    return {};
}

ir::Value* QuantizedTable::unpacked(ir::Value* packed) {
    ir::Value* four = edit_.addInitializer("half_byte", Tensor::scalar<std::uint8_t>(4));
    ir::Value* raised = emit(edit_, "BitShift", {packed, four}, {{"direction", std::string("LEFT")}});
    ir::Value* low = emit(edit_, "BitShift", {raised, four}, {{"direction", std::string("RIGHT")}});
    ir::Value* high = emit(edit_, "BitShift", {packed, four}, {{"direction", std::string("RIGHT")}});
    readers_ = {raised->producer(), high->producer()};
    return emit(edit_, "Concat", {low, high}, {{"axis", std::int64_t{-1}}});
}

ir::Value* QuantizedTable::dequantized(ir::Value* codes, ir::Value* scales, std::int64_t indexRank) {
    const bool packed = rule_.bits == kPackedBits;
    const bool asymmetric = rule_.symmetry == Symmetry::asymmetric;
    const std::int64_t blocks = layout_.blocks();
    const std::int64_t width = blocks * layout_.block;
    ir::Value* real = emitCast(edit_, packed ? unpacked(codes) : codes, DType::float32);
    if (!packed) readers_ = {real->producer()};
    ir::Value* zero = nullptr;
    if (asymmetric) {
        zero = emitSliceLast(edit_, real, width, entries_);
        real = emitSliceLast(edit_, real, 0, width);
    } else if (packed) {
        if (storedEntries_ != width) real = emitSliceLast(edit_, real, 0, width);
        zero = edit_.addInitializer("offset", Tensor::scalar<float>(kNibbleOffset));
    }
    // Leading dimensions are the indices', which Reshape copies where the new shape says 0.
    std::vector<std::int64_t> leading(static_cast<std::size_t>(indexRank), 0);
    if (blocks > 1) {
        const auto split = [&](ir::Value* value, std::int64_t last) {
            std::vector<std::int64_t> shape = leading;
            shape.insert(shape.end(), {blocks, last});
            return emit(edit_, "Reshape", {value, emitIntegers(edit_, shape)});
        };
        real = split(real, layout_.block);
        if (asymmetric) zero = split(zero, 1);
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

ir::Value* QuantizedTable::readBy(ir::Node& gather) {
    ir::Value* indices = gather.input(1);
    ir::Value* rows = gather.output();
    const auto shape = indices->shape();
    const auto rank = shape ? static_cast<std::int64_t>(shape->size()) : 0;
    ir::Value* scales = emit(edit_, "Gather", {scales_, indices});
    if (rule_.scaleType != DType::float32) scales = emitCast(edit_, scales, DType::float32);

    edit_.replaceInput(&gather, 0, codes_);
    readers_.clear();
    ir::Value* result = dequantized(rows, scales, rank);
    edit_.replaceAllUses(rows, result, readers_);
    return result;
}

}  // namespace tcompress::passes
