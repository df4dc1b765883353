#include "passes/quantize/storage/packed_codes.h"

#include <array>

#include "lib/support/check.h"
#include "passes/support/emit.h"

namespace tcompress::passes {
namespace {

constexpr std::array<std::int32_t, 5> kPowersOf3 = {1, 3, 9, 27, 81};
constexpr int kTritsPerByte = kPowersOf3.size();

std::int64_t paddedEntries(int bits, std::int64_t entries, Packing packing) {
    const std::int64_t perByte = packing == Packing::trits ? kTritsPerByte : 8 / planeWidths(bits).back();
    return (entries + perByte - 1) / perByte * perByte;
}

Tensor plane(std::span<const std::uint16_t> codes, std::int64_t rows, std::int64_t padded, int width,
             int shift) {
    const std::int64_t entries = static_cast<std::int64_t>(codes.size()) / rows;
    const int perByte = 8 / width;
    const std::int64_t bytes = padded / perByte;
    Tensor tensor(DType::uint8, {rows, bytes});
    const auto target = tensor.mutableData<std::uint8_t>();
    for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t i = 0; i < entries; ++i) {
            const int field =
                codes[static_cast<std::size_t>(row * entries + i)] >> shift & ((1 << width) - 1);
            std::uint8_t& byte = target[static_cast<std::size_t>(row * bytes + i / perByte)];
            byte = static_cast<std::uint8_t>(byte | field << static_cast<int>(i % perByte) * width);
        }
    return tensor;
}

Tensor tritPlane(std::span<const std::uint16_t> codes, std::int64_t rows, std::int64_t padded) {
    const std::int64_t entries = static_cast<std::int64_t>(codes.size()) / rows;
    const std::int64_t bytes = padded / kTritsPerByte;
    Tensor tensor(DType::uint8, {rows, bytes});
    const auto target = tensor.mutableData<std::uint8_t>();
    for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t i = 0; i < entries; ++i) {
            const int code = codes[static_cast<std::size_t>(row * entries + i)];
            TCOMPRESS_CHECK(code < 3, "a code that is no digit of base 3");
            std::uint8_t& byte = target[static_cast<std::size_t>(row * bytes + i / kTritsPerByte)];
            byte = static_cast<std::uint8_t>(byte +
                                             code * kPowersOf3[static_cast<std::size_t>(i % kTritsPerByte)]);
        }
    return tensor;
}

}  // namespace

std::vector<int> planeWidths(int bits) {
    TCOMPRESS_CHECK(bits >= 1 && bits <= 16, "codes have 1 to 16 bits");
    std::vector<int> widths;
    for (const int width : {8, 8, 4, 2, 1}) {
        if (bits < width) continue;
        widths.push_back(width);
        bits -= width;
    }
    return widths;
}

PackedCodes::PackedCodes(ir::Edit& edit, const std::string& name, int bits,
                         std::span<const std::uint16_t> codes, std::int64_t rows, Packing packing)
    : edit_(edit), packing_(packing), widths_(planeWidths(bits)), rows_(rows) {
    TCOMPRESS_CHECK(rows > 0 && static_cast<std::int64_t>(codes.size()) % rows == 0,
                    "the codes do not fill whole rows");
    entries_ = paddedEntries(bits, static_cast<std::int64_t>(codes.size()) / rows, packing);
    if (packing == Packing::trits) {
        planes_.push_back(edit.addInitializer(name, tritPlane(codes, rows, entries_)));
        return;
    }
    int shift = bits;
    for (const int width : widths_) {
        shift -= width;
        planes_.push_back(edit.addInitializer(name, plane(codes, rows, entries_, width, shift)));
    }
}

std::int64_t PackedCodes::sizeBytes(int bits, std::int64_t rows, std::int64_t entries, Packing packing) {
    const std::int64_t padded = paddedEntries(bits, entries, packing);
    return packing == Packing::trits ? rows * padded / kTritsPerByte : rows * padded * bits / 8;
}

/// [.., m] → [.., m, 1].
ir::Value* PackedCodes::apart(ir::Value* bytes, int perByte, const std::vector<std::int64_t>& leading) {
    std::vector<std::int64_t> shape = leading;
    shape.insert(shape.end(), {entries_ / perByte, 1});
    ir::Value* result = emit(edit_, "Reshape", {bytes, emitIntegers(edit_, shape)});
    firstReaders_.push_back(result->producer());
    return result;
}

/// [.., m, fields of a byte] → float32 [.., entries].
ir::Value* PackedCodes::together(ir::Value* fields, const std::vector<std::int64_t>& leading) {
    std::vector<std::int64_t> shape = leading;
    shape.push_back(entries_);
    return emit(edit_, "Reshape", {emitCast(edit_, fields, DType::float32), emitIntegers(edit_, shape)});
}

ir::Value* PackedCodes::unpackedTrits(ir::Value* bytes, const std::vector<std::int64_t>& leading) {
    ir::Value* whole = emitCast(edit_, apart(bytes, kTritsPerByte, leading), DType::int32);
    ir::Value* powers = edit_.addInitializer(
        "powers", Tensor::of<std::int32_t>({kTritsPerByte}, std::span<const std::int32_t>(kPowersOf3)));
    ir::Value* base = edit_.addInitializer("base", Tensor::scalar<std::int32_t>(3));
    return together(emit(edit_, "Mod", {emit(edit_, "Div", {whole, powers}), base}), leading);
}

ir::Value* PackedCodes::unpacked(ir::Value* bytes, int width, const std::vector<std::int64_t>& leading) {
    if (width == 8) {
        ir::Value* real = emitCast(edit_, bytes, DType::float32);
        firstReaders_.push_back(real->producer());
        return real;
    }
    const int perByte = 8 / width;
    ir::Value* split = apart(bytes, perByte, leading);
    std::vector<std::uint8_t> shifts;
    for (int field = 0; field < perByte; ++field)
        shifts.push_back(static_cast<std::uint8_t>(8 - width - field * width));
    ir::Value* left = edit_.addInitializer(
        "shifts", Tensor::of<std::uint8_t>({perByte}, std::span<const std::uint8_t>(shifts)));
    ir::Value* right =
        edit_.addInitializer("shift", Tensor::scalar<std::uint8_t>(static_cast<std::uint8_t>(8 - width)));
    ir::Value* field = emit(edit_, "BitShift", {split, left}, {{"direction", std::string("LEFT")}});
    return together(emit(edit_, "BitShift", {field, right}, {{"direction", std::string("RIGHT")}}), leading);
}

ir::Value* PackedCodes::joined(const std::vector<ir::Value*>& bytes,
                               const std::vector<std::int64_t>& leading) {
    firstReaders_.clear();
    if (packing_ == Packing::trits) return unpackedTrits(bytes.front(), leading);
    ir::Value* code = nullptr;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        ir::Value* field = unpacked(bytes[i], widths_[i], leading);
        if (code == nullptr) {
            code = field;
            continue;
        }
        ir::Value* weight =
            edit_.addInitializer("field_weight", Tensor::scalar<float>(static_cast<float>(1 << widths_[i])));
        code = emit(edit_, "Add", {emit(edit_, "Mul", {code, weight}), field});
    }
    return code;
}

ir::Value* PackedCodes::all() { return joined(planes_, {rows_}); }

ir::Value* PackedCodes::rows(ir::Value* indices, std::int64_t indexRank, ir::Node* gather) {
    std::vector<ir::Value*> bytes;
    for (ir::Value* stored : planes_) {
        if (gather != nullptr && bytes.empty()) {
            edit_.replaceInput(gather, 0, stored);
            bytes.push_back(gather->output());
        } else {
            bytes.push_back(emit(edit_, "Gather", {stored, indices}));
        }
    }
    // Leading dimensions are the indices', which Reshape copies where the new shape says 0.
    return joined(bytes, std::vector<std::int64_t>(static_cast<std::size_t>(indexRank), 0));
}

}  // namespace tcompress::passes
