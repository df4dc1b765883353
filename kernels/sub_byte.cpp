// Packing of 2- and 4-bit integers: element i sits in byte i·bits/8, low bits first (ONNX's int4, uint4,
// int2, uint2).

#include "kernels/multiversion.h"
#include "kernels/quantize.h"
#include "lib/support/check.h"

namespace tcompress::kernels {

namespace {

TCOMPRESS_MULTIVERSION void unpackNibbles(const std::uint8_t* packed, std::int8_t* values, std::int64_t bytes,
                                          int signBit) {
    for (std::int64_t i = 0; i < bytes; ++i) {
        values[2 * i] = static_cast<std::int8_t>(((packed[i] & 15) ^ signBit) - signBit);
        values[2 * i + 1] = static_cast<std::int8_t>(((packed[i] >> 4) ^ signBit) - signBit);
    }
}

TCOMPRESS_MULTIVERSION void packNibbles(const std::int8_t* values, std::uint8_t* packed, std::int64_t bytes) {
    for (std::int64_t i = 0; i < bytes; ++i)
        packed[i] = static_cast<std::uint8_t>((values[2 * i] & 15) | (values[2 * i + 1] & 15) << 4);
}

struct SubByte {
    int bits = 4;
    int signBit = 0;  // x = (bits ^ signBit) − signBit extends the sign
};

SubByte subByteOf(DType type) {
    switch (type) {
        case DType::int4:
            return {4, 8};
        case DType::uint4:
            return {4, 0};
        case DType::int2:
            return {2, 2};
        case DType::uint2:
            return {2, 0};
        default:
            TCOMPRESS_CHECK(false, "a type of 2 or 4 bits is needed");
    }
    return {};
}

}  // namespace

void unpackSubByte(DType type, std::span<const std::byte> packed, std::span<std::int8_t> values) {
    const SubByte form = subByteOf(type);
    const auto count = static_cast<std::int64_t>(values.size());
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(packed.data());
    TCOMPRESS_CHECK(static_cast<std::int64_t>(packed.size()) * 8 >= count * form.bits,
                    "unpackSubByte: too few bytes");
    std::int64_t i = 0;
    if (form.bits == 4) {
        unpackNibbles(bytes, values.data(), count / 2, form.signBit);
        i = count / 2 * 2;
    }
    const int mask = (1 << form.bits) - 1;
    for (; i < count; ++i) {
        const int field = bytes[i * form.bits / 8] >> (i * form.bits % 8) & mask;
        values[static_cast<std::size_t>(i)] = static_cast<std::int8_t>((field ^ form.signBit) - form.signBit);
    }
}

void packSubByte(DType type, std::span<const std::int8_t> values, std::span<std::byte> packed) {
    const SubByte form = subByteOf(type);
    const auto count = static_cast<std::int64_t>(values.size());
    auto* bytes = reinterpret_cast<std::uint8_t*>(packed.data());
    TCOMPRESS_CHECK(static_cast<std::int64_t>(packed.size()) * 8 >= count * form.bits,
                    "packSubByte: too few bytes");
    const int perByte = 8 / form.bits;
    const int mask = (1 << form.bits) - 1;
    std::int64_t i = 0;
    if (form.bits == 4) {
        packNibbles(values.data(), bytes, count / 2);
        i = count / 2 * 2;
    }
    for (; i < count; i += perByte) {
        int byte = 0;
        for (int j = 0; j < perByte && i + j < count; ++j)
            byte |= (values[static_cast<std::size_t>(i + j)] & mask) << (j * form.bits);
        bytes[i * form.bits / 8] = static_cast<std::uint8_t>(byte);
    }
}

}  // namespace tcompress::kernels
