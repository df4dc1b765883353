#include "lib/data/npy.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

#include "lib/support/error.h"

namespace tcompress::data {
namespace {

constexpr std::string_view magic = "\x93NUMPY";

struct TypeName {
    std::string_view npy;  ///< kind and bytes
    DType dtype;
};
constexpr std::array<TypeName, 12> typeNames{{{"f2", DType::float16},
                                              {"f4", DType::float32},
                                              {"f8", DType::float64},
                                              {"i1", DType::int8},
                                              {"i2", DType::int16},
                                              {"i4", DType::int32},
                                              {"i8", DType::int64},
                                              {"u1", DType::uint8},
                                              {"u2", DType::uint16},
                                              {"u4", DType::uint32},
                                              {"u8", DType::uint64},
                                              {"b1", DType::boolean}}};

/// The Python literal of the header: a dict of a string, a bool and a tuple of integers.
class HeaderText {
  public:
    HeaderText(std::string_view text, const std::string& what) : text_(text), what_(what) {}

    void parse(NpyHeader& header) {
        bool descr = false, order = false, shape = false;
        expect('{');
        while (!accept('}')) {
            const std::string_view key = quoted();
            expect(':');
            if (key == "descr") {
                header.dtype = dtype();
                descr = true;
            } else if (key == "fortran_order") {
                header.fortranOrder = boolean();
                order = true;
            } else if (key == "shape") {
                header.shape = tuple();
                shape = true;
            } else {
                fail(fmt::format("unknown key '{}' in the header", key));
            }
            if (!accept(',')) {
                expect('}');
                break;
            }
        }
        if (!descr || !order || !shape) fail("the header lacks descr, fortran_order or shape");
    }

  private:
    [[noreturn]] void fail(const std::string& why) const {
        throw DataError(fmt::format("{}: {}", what_, why));
    }

    void skipSpace() {
        while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    }
    bool accept(char c) {
        skipSpace();
        if (at_ >= text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }
    void expect(char c) {
        if (!accept(c)) fail(fmt::format("malformed .npy header, '{}' expected at byte {}", c, at_));
    }
    std::string_view quoted() {
        skipSpace();
        const char quote = at_ < text_.size() ? text_[at_] : '\0';
        if (quote != '\'' && quote != '"')
            fail("malformed .npy header, a quoted text expected (structured arrays are not read)");
        const std::size_t end = text_.find(quote, at_ + 1);
        if (end == std::string_view::npos) fail("malformed .npy header, a text does not end");
        const std::string_view result = text_.substr(at_ + 1, end - at_ - 1);
        at_ = end + 1;
        return result;
    }
    bool boolean() {
        skipSpace();
        for (const bool value : {true, false}) {
            const std::string_view word = value ? "True" : "False";
            if (text_.substr(at_, word.size()) == word) {
                at_ += word.size();
                return value;
            }
        }
        fail("malformed .npy header, fortran_order is neither True nor False");
    }
    DType dtype() {
        const std::string_view descr = quoted();
        const char order = descr.empty() ? '\0' : descr[0];
        if (order == '>')
            fail(fmt::format("type '{}' is big-endian; save the array in little-endian order", descr));
        if (order == '<' || order == '|' || order == '=')
            for (const TypeName& type : typeNames)
                if (descr.substr(1) == type.npy) return type.dtype;
        fail(fmt::format("type '{}' is not read; use float16/32/64, (u)int8/16/32/64 or bool", descr));
    }
    std::int64_t integer() {
        skipSpace();
        const std::size_t begin = at_;
        std::int64_t value = 0;
        for (; at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])); ++at_) {
            const int digit = text_[at_] - '0';
            if (value > (std::numeric_limits<std::int64_t>::max() - digit) / 10)
                fail("a dimension is out of range");
            value = value * 10 + digit;
        }
        if (at_ == begin) fail("malformed .npy header, a dimension expected");
        return value;
    }
    Shape tuple() {
        Shape shape;
        expect('(');
        while (!accept(')')) {
            shape.push_back(integer());
            if (shape.size() > 32) fail("more than 32 dimensions");
            if (!accept(',')) {
                expect(')');
                break;
            }
        }
        return shape;
    }

    std::string_view text_;
    std::size_t at_ = 0;
    const std::string& what_;
};

std::optional<std::size_t> arrayBytes(DType dtype, const Shape& shape) {
    std::size_t bytes = static_cast<std::size_t>(bitsPerElement(dtype)) / 8;
    if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
    for (const std::int64_t dim : shape)
        if (__builtin_mul_overflow(bytes, static_cast<std::size_t>(dim), &bytes)) return std::nullopt;
    if (bytes > static_cast<std::size_t>(std::numeric_limits<std::int64_t>::max()) / 2) return std::nullopt;
    return bytes;
}

/// A byte of a bool array other than 0 and 1 is true to numpy and undefined behaviour to C++.
Tensor normalisedBooleans(Tensor tensor) {
    const auto bytes = tensor.bytes();
    const auto isBit = [](std::byte b) { return b == std::byte{0} || b == std::byte{1}; };
    if (std::all_of(bytes.begin(), bytes.end(), isBit)) return tensor;
    for (std::byte& b : tensor.mutableBytes()) b = b == std::byte{0} ? b : std::byte{1};
    return tensor;
}

}  // namespace

std::size_t NpyHeader::fileBytes() const { return dataOffset + *arrayBytes(dtype, shape); }

NpyHeader parseNpyHeader(std::span<const std::byte> bytes, const std::string& what) {
    const auto fail = [&](const std::string& why) { throw DataError(fmt::format("{}: {}", what, why)); };
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (text.substr(0, magic.size()) != magic) fail("is no .npy array (the magic string is missing)");
    const auto byteAt = [&](std::size_t i) { return static_cast<std::size_t>(bytes[i]); };
    if (bytes.size() < 12) fail("is cut off inside the .npy header");
    const std::size_t version = byteAt(6);
    if (version < 1 || version > 3) fail(fmt::format(".npy version {} is not known, 1 to 3 are", version));
    std::size_t length = byteAt(8) | byteAt(9) << 8;
    if (version > 1) length |= byteAt(10) << 16 | byteAt(11) << 24;
    const std::size_t begin = version > 1 ? 12 : 10;
    if (length > maxNpyHeaderBytes) fail(fmt::format("the .npy header claims {} bytes", length));
    if (begin + length > bytes.size()) fail("is cut off inside the .npy header");

    NpyHeader header;
    HeaderText(text.substr(begin, length), what).parse(header);
    header.dataOffset = begin + length;
    if (!arrayBytes(header.dtype, header.shape))
        fail(fmt::format("shape {} is larger than any memory", toString(header.shape)));
    return header;
}

Tensor npyTensor(std::shared_ptr<const std::byte> bytes, std::size_t size, const std::string& what) {
    const NpyHeader header = parseNpyHeader({bytes.get(), size}, what);
    if (header.fileBytes() != size)
        throw DataError(fmt::format("{}: {} of shape {} needs {} bytes, the file has {}", what,
                                    name(header.dtype), toString(header.shape),
                                    header.fileBytes() - header.dataOffset, size - header.dataOffset));
    const std::byte* begin = bytes.get() + header.dataOffset;
    std::shared_ptr<const std::byte> data;
    if (reinterpret_cast<std::uintptr_t>(begin) % 8 == 0) {
        data = std::shared_ptr<const std::byte>(bytes, begin);
    } else {
        const std::size_t count = size - header.dataOffset;
        std::shared_ptr<std::byte[]> aligned(new std::byte[std::max<std::size_t>(count, 1)]);
        std::memcpy(aligned.get(), begin, count);
        data = std::shared_ptr<const std::byte>(aligned, aligned.get());
    }
    Tensor tensor;
    if (header.fortranOrder) {
        Shape reversed(header.shape.rbegin(), header.shape.rend());
        std::vector<std::int64_t> perm(reversed.size());
        for (std::size_t i = 0; i < perm.size(); ++i)
            perm[i] = static_cast<std::int64_t>(perm.size() - 1 - i);
        tensor = transpose(Tensor::share(header.dtype, std::move(reversed), std::move(data)), perm);
    } else {
        tensor = Tensor::share(header.dtype, header.shape, std::move(data));
    }
    return header.dtype == DType::boolean ? normalisedBooleans(std::move(tensor)) : tensor;
}

std::string npyHeader(const Tensor& tensor) {
    std::string_view descr;
    for (const TypeName& type : typeNames)
        if (type.dtype == tensor.dtype()) descr = type.npy;
    if (descr.empty())
        throw DataError(fmt::format("{} arrays cannot be written as .npy", name(tensor.dtype())));
    std::string shape;
    for (const std::int64_t dim : tensor.shape()) shape += fmt::format("{}, ", dim);
    if (tensor.rank() > 1) shape.resize(shape.size() - 2);
    if (tensor.rank() == 1) shape.resize(shape.size() - 1);
    std::string text = fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}), }}",
                                   bitsPerElement(tensor.dtype()) == 8 ? '|' : '<', descr, shape);
    constexpr std::size_t prefix = 10, alignment = 64;
    const std::size_t used = prefix + text.size() + 1;
    text.append((alignment - used % alignment) % alignment, ' ');
    text += '\n';
    std::string header(magic);
    header += {'\x01', '\x00', static_cast<char>(text.size() & 0xff), static_cast<char>(text.size() >> 8)};
    return header + text;
}

}  // namespace tcompress::data
