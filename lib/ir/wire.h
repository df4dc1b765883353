#pragma once
// The protobuf wire format, field by field, on bytes that may lie: every length is checked against what is
// there. Format: https://protobuf.dev/programming-guides/encoding

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>

namespace tcompress::ir::wire {

using Bytes = std::span<const std::byte>;

/// Bytes that are no message; the text says what is wrong, without the file.
class Malformed : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

enum class Type : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

struct Field {
    std::uint32_t number = 0;
    Type type = Type::varint;
    Bytes whole;    ///< tag, length and payload
    Bytes payload;  ///< without tag and length
};

/// The fields of a message in the order they stand.
class FieldReader {
  public:
    explicit FieldReader(Bytes message) : rest_(message) {}
    std::optional<Field> next();

  private:
    Bytes rest_;
};

/// Takes a varint from the front of `bytes`.
std::uint64_t readVarint(Bytes& bytes);

void appendVarint(std::string& target, std::uint64_t value);
/// Tag and length of a field of type bytes.
void appendHeader(std::string& target, std::uint32_t number, std::uint64_t length);
inline void append(std::string& target, Bytes bytes) {
    target.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace tcompress::ir::wire
