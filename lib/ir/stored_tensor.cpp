#include "lib/ir/stored_tensor.h"

#include <fmt/core.h>

#include <bit>
#include <charconv>
#include <cstring>

#include "lib/support/error.h"

static_assert(std::endian::native == std::endian::little,
              "ONNX stores little-endian numbers, which are used in place");

namespace tcompress::ir {
namespace {

[[noreturn]] void fail(const std::string& tensor, const std::string& problem) {
    throw ModelError(fmt::format("tensor '{}' {}", tensor, problem));
}

struct Layout {
    DType dtype;
    Shape shape;
    std::int64_t count = 1;
    std::size_t bytes = 0;
};

/// Checked before anything is allocated: the numbers come from the file.
Layout layoutOf(const std::string& name, std::int32_t dataType,
                const google::protobuf::RepeatedField<std::int64_t>& dims) {
    Layout layout;
    layout.dtype = static_cast<DType>(dataType);
    layout.shape.assign(dims.begin(), dims.end());
    for (std::int64_t size : layout.shape) {
        if (size < 0) fail(name, fmt::format("has the negative dimension {}", size));
    }
    // Zero sizes last: [2^40, 2^40, 0] has no elements, but no sensible file says so.
    constexpr std::int64_t most = std::int64_t{1} << 56;
    for (std::int64_t size : layout.shape) {
        if (__builtin_mul_overflow(layout.count, size, &layout.count) || layout.count > most) {
            fail(name, fmt::format("has the shape {}, too many elements", toString(layout.shape)));
        }
    }
    layout.bytes = packedSizeBytes(layout.dtype, layout.count);
    return layout;
}

void expectBytes(const std::string& name, const Layout& layout, std::size_t found, std::string_view where) {
    if (found == layout.bytes) return;
    fail(name, fmt::format("of {} {} needs {} bytes and has {} in {}", tcompress::name(layout.dtype),
                           toString(layout.shape), layout.bytes, found, where));
}

Tensor shareBytes(const Layout& layout, std::shared_ptr<const std::byte> bytes) {
    return Tensor::share(layout.dtype, layout.shape, std::move(bytes));
}

std::uint64_t parseNumber(const std::string& tensor, const std::string& key, const std::string& text) {
    std::uint64_t value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) {
        fail(tensor, fmt::format("has external data with {} '{}', not a number", key, text));
    }
    return value;
}

Tensor decodeExternal(const onnx::TensorProto& proto, const Layout& layout, ExternalFiles& files) {
    std::string location;
    std::uint64_t offset = 0;
    std::optional<std::uint64_t> length;
    for (const onnx::StringStringEntryProto& entry : proto.external_data()) {
        if (entry.key() == "location") location = entry.value();
        if (entry.key() == "offset") offset = parseNumber(proto.name(), "offset", entry.value());
        if (entry.key() == "length") length = parseNumber(proto.name(), "length", entry.value());
    }
    std::shared_ptr<const MappedFile> file = files.open(location);
    wire::Bytes bytes = file->bytes();
    // Without a length the tensor takes what it needs: several tensors may follow one another in the file.
    std::uint64_t wanted = length.value_or(layout.bytes);
    if (offset > bytes.size() || wanted > bytes.size() - offset) {
        fail(proto.name(), fmt::format("needs bytes {} to {} of {}, which has {}", offset, offset + wanted,
                                       file->path().string(), bytes.size()));
    }
    expectBytes(proto.name(), layout, wanted, file->path().string());
    return shareBytes(layout, {file, bytes.data() + offset});
}

/// Calls visit with each integer of a typed field, cut or not.
template <class Visit>
void forEachInteger(const StoredTensor& stored, int field, Visit&& visit) {
    if (stored.payloadField == field) {
        for (wire::Bytes rest = stored.payloadSpan(); !rest.empty();) visit(wire::readVarint(rest));
        return;
    }
    auto visitAll = [&](const auto& values) {
        for (auto value : values) visit(static_cast<std::uint64_t>(value));
    };
    if (field == tensor_field::int32Data) visitAll(stored.proto.int32_data());
    if (field == tensor_field::int64Data) visitAll(stored.proto.int64_data());
    if (field == tensor_field::uint64Data) visitAll(stored.proto.uint64_data());
}

/// The integers of a typed field as elements of `width` bytes (their low bytes).
Tensor decodeIntegers(const std::shared_ptr<const StoredTensor>& stored, const Layout& layout, int field,
                      std::size_t width) {
    std::size_t entries = 0;
    forEachInteger(*stored, field, [&](std::uint64_t) { ++entries; });
    // Types below a byte: one byte an entry as ONNX's Python helper writes them, or four as its checker reads
    // them.
    if (bitsPerElement(layout.dtype) < 8 && entries != layout.bytes && entries == (layout.bytes + 3) / 4)
        width = 4;
    std::size_t room = (layout.bytes + width - 1) / width;
    if (entries != room) {
        fail(stored->proto.name(), fmt::format("of {} {} needs {} entries in its typed data and has {}",
                                               name(layout.dtype), toString(layout.shape), room, entries));
    }
    Tensor tensor(layout.dtype, layout.shape);
    std::byte* target = tensor.mutableBytes().data();
    std::size_t left = layout.bytes;
    forEachInteger(*stored, field, [&](std::uint64_t value) {
        std::size_t size = std::min(width, left);
        std::memcpy(target, &value, size);
        target += size;
        left -= size;
    });
    return tensor;
}

/// float_data and double_data lie in the file as they do in memory.
Tensor decodeFloats(const std::shared_ptr<const StoredTensor>& stored, const Layout& layout, int field) {
    const onnx::TensorProto& proto = stored->proto;
    std::shared_ptr<const std::byte> bytes = stored->payload;
    std::size_t size = stored->payloadBytes;
    if (stored->payloadField != field) {
        auto use = [&](const auto& values) {
            bytes = {stored, reinterpret_cast<const std::byte*>(values.data())};
            size = static_cast<std::size_t>(values.size()) * sizeof(*values.data());
        };
        if (field == tensor_field::floatData) {
            use(proto.float_data());
        } else {
            use(proto.double_data());
        }
    }
    expectBytes(proto.name(), layout, size, "its typed data");
    return shareBytes(layout, bytes);
}

bool hasRawData(const StoredTensor& stored) {
    return stored.payloadField == tensor_field::rawData || !stored.proto.raw_data().empty();
}

Tensor decodeRaw(const std::shared_ptr<const StoredTensor>& stored, const Layout& layout) {
    if (stored->payloadField == tensor_field::rawData) {
        expectBytes(stored->proto.name(), layout, stored->payloadBytes, "raw_data");
        return shareBytes(layout, stored->payload);
    }
    const std::string& raw = stored->proto.raw_data();
    expectBytes(stored->proto.name(), layout, raw.size(), "raw_data");
    return shareBytes(layout, {stored, reinterpret_cast<const std::byte*>(raw.data())});
}

Tensor decodeTyped(const std::shared_ptr<const StoredTensor>& stored, const Layout& layout) {
    switch (layout.dtype) {
        case DType::float32:
        case DType::complex64:
            return decodeFloats(stored, layout, tensor_field::floatData);
        case DType::float64:
        case DType::complex128:
            return decodeFloats(stored, layout, tensor_field::doubleData);
        case DType::int64:
            return decodeIntegers(stored, layout, tensor_field::int64Data, 8);
        case DType::uint64:
            return decodeIntegers(stored, layout, tensor_field::uint64Data, 8);
        case DType::uint32:
            return decodeIntegers(stored, layout, tensor_field::uint64Data, 4);
        default: {
            auto width = static_cast<std::size_t>(std::max(8, bitsPerElement(layout.dtype))) / 8;
            return decodeIntegers(stored, layout, tensor_field::int32Data, width);
        }
    }
}

/// The dense form of a sparse tensor: indices are linear ([nnz]) or by axis ([nnz, rank]).
std::optional<Tensor> decodeSparse(const onnx::SparseTensorProto& sparse) {
    constexpr std::size_t mostBytes = std::size_t{1} << 28;
    const std::string& name = sparse.values().name();
    Layout layout = layoutOf(name, sparse.values().data_type(), sparse.dims());
    if (layout.bytes > mostBytes || bitsPerElement(layout.dtype) < 8) return std::nullopt;

    ExternalFiles noFiles("");
    auto part = [&](const onnx::TensorProto& proto) {
        if (proto.data_location() == onnx::TensorProto::EXTERNAL) fail(name, "is sparse with external data");
        auto stored = std::make_shared<StoredTensor>();
        stored->proto = proto;
        stored->proto.set_name(name);
        return decode(stored, noFiles);
    };
    std::optional<Tensor> values = part(sparse.values());
    std::optional<Tensor> indices = part(sparse.indices());
    if (!values || !indices) return std::nullopt;
    std::int64_t count = values->size();
    auto rank = static_cast<std::int64_t>(layout.shape.size());
    bool linear = indices->shape() == Shape{count};
    if (values->rank() != 1 || indices->dtype() != DType::int64 ||
        (!linear && indices->shape() != Shape{count, rank})) {
        fail(name, fmt::format("is sparse with {} values and indices of shape {}", count,
                               toString(indices->shape())));
    }

    Tensor dense(layout.dtype, layout.shape);
    auto size = static_cast<std::size_t>(bitsPerElement(layout.dtype)) / 8;
    std::span<const std::int64_t> positions = indices->data<std::int64_t>();
    std::byte* target = dense.mutableBytes().data();
    for (std::int64_t i = 0; i < count; ++i) {
        std::int64_t place = 0;
        bool inside = true;
        if (linear) {
            place = positions[static_cast<std::size_t>(i)];
            inside = place >= 0 && place < layout.count;
        }
        for (std::int64_t axis = 0; !linear && inside && axis < rank; ++axis) {
            std::int64_t index = positions[static_cast<std::size_t>(i * rank + axis)];
            std::int64_t limit = layout.shape[static_cast<std::size_t>(axis)];
            inside = index >= 0 && index < limit;
            place = place * limit + index;
        }
        if (!inside)
            fail(name, fmt::format("is sparse and its index {} lies outside {}", i, toString(layout.shape)));
        std::memcpy(target + static_cast<std::size_t>(place) * size,
                    values->bytes().data() + static_cast<std::size_t>(i) * size, size);
    }
    return dense;
}

}  // namespace

std::optional<Tensor> decode(const std::shared_ptr<const StoredTensor>& stored, ExternalFiles& files) {
    if (stored->sparse) return decodeSparse(*stored->sparse);
    const onnx::TensorProto& proto = stored->proto;
    Layout layout = layoutOf(proto.name(), proto.data_type(), proto.dims());
    bool understood = bitsPerElement(layout.dtype) > 0 && !proto.has_segment();
    if (!understood && stored->isExternal()) {
        fail(proto.name(),
             fmt::format("of element type {} cannot be read from external data", proto.data_type()));
    }
    if (!understood) return std::nullopt;

    if (stored->isExternal()) return decodeExternal(proto, layout, files);
    if (hasRawData(*stored) || layout.bytes == 0) return decodeRaw(stored, layout);
    try {
        return decodeTyped(stored, layout);
    } catch (const wire::Malformed& problem) {
        fail(proto.name(), fmt::format("has damaged typed data: {}", problem.what()));
    }
}

void restorePayload(onnx::TensorProto& tensor, const Payload& payload) {
    if (payload.field == tensor_field::rawData) {
        tensor.set_raw_data(payload.bytes.data(), payload.bytes.size());
        return;
    }
    std::string bytes;
    wire::appendHeader(bytes, static_cast<std::uint32_t>(payload.field), payload.bytes.size());
    wire::append(bytes, payload.bytes);
    if (!tensor.MergeFromString(bytes)) fail(tensor.name(), "has damaged typed data");
}

std::shared_ptr<StoredTensor> store(const Tensor& tensor, const std::string& name) {
    auto stored = std::make_shared<StoredTensor>();
    for (std::int64_t size : tensor.shape()) stored->proto.add_dims(size);
    stored->proto.set_data_type(static_cast<std::int32_t>(tensor.dtype()));
    stored->proto.set_name(name);
    if (tensor.sizeBytes() >= payloadThreshold) {
        stored->payloadField = tensor_field::rawData;
        stored->payload = tensor.storage();
        stored->payloadBytes = tensor.sizeBytes();
    } else {
        stored->proto.set_raw_data(tensor.bytes().data(), tensor.sizeBytes());
    }
    return stored;
}

}  // namespace tcompress::ir
