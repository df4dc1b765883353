#include "lib/ir/wire.h"

#include <fmt/core.h>

namespace tcompress::ir::wire {

std::uint64_t readVarint(Bytes& bytes) {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (bytes.empty()) throw Malformed("it ends inside a number");
        auto byte = std::to_integer<std::uint64_t>(bytes.front());
        bytes = bytes.subspan(1);
        value |= (byte & 0x7f) << (shift & 63);
        if (byte < 0x80) return value;
    }
    throw Malformed("a number has more than ten bytes");
}

std::optional<Field> FieldReader::next() {
    if (rest_.empty()) return std::nullopt;
    Bytes start = rest_;
    std::uint64_t tag = readVarint(rest_);
    Field field;
    field.number = static_cast<std::uint32_t>(tag >> 3);
    if (tag > UINT32_MAX || field.number == 0) throw Malformed("a field has no valid number");
    field.type = static_cast<Type>(tag & 7);
    std::uint64_t length = 0;
    switch (field.type) {
        case Type::varint: {
            Bytes before = rest_;
            readVarint(rest_);
            length = before.size() - rest_.size();
            rest_ = before;
            break;
        }
        case Type::fixed64:
            length = 8;
            break;
        case Type::fixed32:
            length = 4;
            break;
        case Type::bytes:
            length = readVarint(rest_);
            break;
        default:
            throw Malformed(fmt::format("field {} has the unknown wire type {}", field.number, tag & 7));
    }
    if (length > rest_.size()) {
        throw Malformed(
            fmt::format("field {} needs {} bytes and only {} are left", field.number, length, rest_.size()));
    }
    field.payload = rest_.first(length);
    rest_ = rest_.subspan(length);
    field.whole = start.first(start.size() - rest_.size());
    return field;
}

void appendVarint(std::string& target, std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) target.push_back(static_cast<char>(value | 0x80));
    target.push_back(static_cast<char>(value));
}

void appendHeader(std::string& target, std::uint32_t number, std::uint64_t length) {
    appendVarint(target, std::uint64_t{number} << 3 | static_cast<std::uint64_t>(Type::bytes));
    appendVarint(target, length);
}

}  // namespace tcompress::ir::wire
