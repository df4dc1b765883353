#pragma once
// Elements of 2, 4, 8 or 16 bits in packed storage, low bits first.

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tcompress {

inline std::uint16_t readBits(const std::byte* bytes, int bits, std::int64_t i) {
    if (bits == 16) {
        std::uint16_t value;
        std::memcpy(&value, bytes + 2 * i, sizeof(value));
        return value;
    }
    std::int64_t perByte = 8 / bits;
    unsigned shift = static_cast<unsigned>(i % perByte) * static_cast<unsigned>(bits);
    return static_cast<std::uint16_t>(std::to_integer<unsigned>(bytes[i / perByte]) >> shift &
                                      ((1u << bits) - 1));
}

inline void writeBits(std::byte* bytes, int bits, std::int64_t i, std::uint16_t value) {
    if (bits == 16) {
        std::memcpy(bytes + 2 * i, &value, sizeof(value));
        return;
    }
    std::int64_t perByte = 8 / bits;
    unsigned shift = static_cast<unsigned>(i % perByte) * static_cast<unsigned>(bits);
    unsigned mask = ((1u << bits) - 1) << shift;
    std::byte& target = bytes[i / perByte];
    target = static_cast<std::byte>((std::to_integer<unsigned>(target) & ~mask) |
                                    (unsigned{value} << shift & mask));
}

inline std::int64_t signExtend(std::uint16_t value, int bits) {
    std::int64_t sign = std::int64_t{1} << (bits - 1);
    return (static_cast<std::int64_t>(value) ^ sign) - sign;
}

}  // namespace tcompress
