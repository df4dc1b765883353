#include "passes/quantize/storage/packed_codes.h"

#include <algorithm>
#include <array>

#include "kernels/multiversion.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"
#include "lib/ir/emit.h"

namespace tcompress::passes {
namespace {

constexpr std::array<std::int32_t, 5> kPowersOf3 = {1, 3, 9, 27, 81};
constexpr int kTritsPerByte = kPowersOf3.size();

std::int64_t paddedEntries(int bits, std::int64_t entries, Packing packing) {
    const std::int64_t perByte = packing == Packing::trits ? kTritsPerByte : 8 / planeWidths(bits).back();
    return (entries + perByte - 1) / perByte * perByte;
}

/// Entries that one task packs; they fill whole bytes of every plane.
constexpr std::int64_t kEntriesOfATask = 40 << 10;

/// Fields of `kWidth` bits of codes, shifted down by `shift`.
template <int kWidth>
TCOMPRESS_INLINE void packFields(std::span<const std::uint16_t> codes, int shift, std::uint8_t* bytes) {
    constexpr std::size_t kPerByte = 8 / kWidth;
    constexpr int kMask = (1 << kWidth) - 1;
    const std::size_t whole = codes.size() / kPerByte;
    for (std::size_t i = 0; i < whole; ++i) {
        int byte = 0;
        for (std::size_t field = 0; field < kPerByte; ++field)
            byte |= (codes[i * kPerByte + field] >> shift & kMask) << field * kWidth;
        bytes[i] = static_cast<std::uint8_t>(byte);
    }
    if (codes.size() == whole * kPerByte) return;
    int last = 0;
    for (std::size_t i = whole * kPerByte; i < codes.size(); ++i)
        last |= (codes[i] >> shift & kMask) << i % kPerByte * kWidth;
    bytes[whole] = static_cast<std::uint8_t>(last);
}

TCOMPRESS_MULTIVERSION void packPlane(std::span<const std::uint16_t> codes, int width, int shift,
                                      std::uint8_t* bytes) {
    if (width == 8) packFields<8>(codes, shift, bytes);
    if (width == 4) packFields<4>(codes, shift, bytes);
    if (width == 2) packFields<2>(codes, shift, bytes);
    if (width == 1) packFields<1>(codes, shift, bytes);
}

void packTrits(std::span<const std::uint16_t> codes, std::uint8_t* bytes) {
    for (std::size_t i = 0; i < codes.size(); i += kTritsPerByte) {
        std::int32_t byte = 0;
        for (std::size_t trit = 0; trit < kTritsPerByte && i + trit < codes.size(); ++trit) {
            TCOMPRESS_CHECK(codes[i + trit] < 3, "a code that is no digit of base 3");
            byte += codes[i + trit] * kPowersOf3[trit];
        }
        bytes[i / kTritsPerByte] = static_cast<std::uint8_t>(byte);
    }
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

PackedCodes::PackedCodes(ir::Edit& edit, const std::string& name, int bits, std::int64_t rows,
                         std::int64_t entries, const CodesOfRow& codes, Packing packing)
    : edit_(edit), packing_(packing), widths_(planeWidths(bits)), rows_(rows) {
    TCOMPRESS_CHECK(rows > 0, "no rows of codes");
    entries_ = paddedEntries(bits, entries, packing);
    std::vector<Tensor> planes;
    std::vector<std::uint8_t*> bytes;
    const auto perByte = [&](std::size_t plane) {
        return packing == Packing::trits ? std::int64_t{kTritsPerByte} : 8 / widths_[plane];
    };
    const std::size_t count = packing == Packing::trits ? 1 : widths_.size();
    for (std::size_t i = 0; i < count; ++i) {
        planes.emplace_back(DType::uint8, Shape{rows, entries_ / perByte(i)});
        bytes.push_back(planes.back().mutableData<std::uint8_t>().data());
    }
    const std::int64_t parts = (entries + kEntriesOfATask - 1) / kEntriesOfATask;
    const std::int64_t grain =
        std::max<std::int64_t>(1, kEntriesOfATask / std::max<std::int64_t>(1, entries));
    parallelRanges(rows * parts, grain, [&](std::int64_t begin, std::int64_t end) {
        std::vector<std::uint16_t> buffer(static_cast<std::size_t>(std::min(entries, kEntriesOfATask)));
        for (std::int64_t part = begin; part < end; ++part) {
            const std::int64_t row = part / parts, first = part % parts * kEntriesOfATask;
            const std::span<std::uint16_t> some =
                std::span(buffer).first(static_cast<std::size_t>(std::min(kEntriesOfATask, entries - first)));
            codes(row, first, some);
            int shift = bits;
            for (std::size_t i = 0; i < count; ++i) {
                std::uint8_t* target = bytes[i] + (row * entries_ + first) / perByte(i);
                shift -= widths_[i];
                if (packing == Packing::trits)
                    packTrits(some, target);
                else
                    packPlane(some, widths_[i], shift, target);
            }
        }
    });
    for (Tensor& plane : planes) planes_.push_back(edit.addInitializer(name, std::move(plane)));
}

PackedCodes::PackedCodes(ir::Edit& edit, const std::string& name, int bits,
                         std::span<const std::uint16_t> codes, std::int64_t rows, Packing packing)
    : PackedCodes(
          edit, name, bits, rows, std::ssize(codes) / std::max<std::int64_t>(1, rows),
          [&](std::int64_t row, std::int64_t first, std::span<std::uint16_t> target) {
              const std::int64_t place = row * (std::ssize(codes) / rows) + first;
              std::copy_n(codes.begin() + place, target.size(), target.begin());
          },
          packing) {
    TCOMPRESS_CHECK(std::ssize(codes) % rows == 0, "the codes do not fill whole rows");
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
