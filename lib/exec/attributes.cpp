#include "lib/exec/attributes.h"

#include <fmt/core.h>
#include <onnx/onnx_pb.h>

#include <cstring>

#include "lib/support/error.h"

namespace tcompress::exec {

const onnx::AttributeProto* Attributes::find(std::string_view name) const {
    for (const onnx::AttributeProto& attribute : node_->attribute()) {
        if (attribute.name() == name) return &attribute;
    }
    return nullptr;
}

std::int64_t Attributes::integer(std::string_view name, std::int64_t fallback) const {
    const onnx::AttributeProto* attribute = find(name);
    return attribute ? attribute->i() : fallback;
}

float Attributes::real(std::string_view name, float fallback) const {
    const onnx::AttributeProto* attribute = find(name);
    return attribute ? attribute->f() : fallback;
}

std::string Attributes::text(std::string_view name, std::string_view fallback) const {
    const onnx::AttributeProto* attribute = find(name);
    return attribute ? attribute->s() : std::string(fallback);
}

std::optional<std::vector<std::int64_t>> Attributes::integers(std::string_view name) const {
    const onnx::AttributeProto* attribute = find(name);
    if (!attribute) return std::nullopt;
    return std::vector<std::int64_t>(attribute->ints().begin(), attribute->ints().end());
}

std::optional<std::vector<float>> Attributes::reals(std::string_view name) const {
    const onnx::AttributeProto* attribute = find(name);
    if (!attribute) return std::nullopt;
    return std::vector<float>(attribute->floats().begin(), attribute->floats().end());
}

std::vector<std::string> Attributes::texts(std::string_view name) const {
    const onnx::AttributeProto* attribute = find(name);
    if (!attribute) return {};
    return {attribute->strings().begin(), attribute->strings().end()};
}

std::optional<Tensor> Attributes::tensor(std::string_view name) const {
    const onnx::AttributeProto* attribute = find(name);
    if (!attribute || !attribute->has_t()) return std::nullopt;
    return tensorFromProto(attribute->t());
}

const onnx::GraphProto* Attributes::graph(std::string_view name) const {
    const onnx::AttributeProto* attribute = find(name);
    return attribute && attribute->has_g() ? &attribute->g() : nullptr;
}

namespace {

template <class T, class Field>
void copyField(Tensor& tensor, const Field& field) {
    std::span<std::byte> bytes = tensor.mutableBytes();
    TCOMPRESS_CHECK(bytes.size() == field.size() * sizeof(T), "size was checked");
    auto* target = reinterpret_cast<T*>(bytes.data());
    for (int i = 0; i < field.size(); ++i) target[i] = static_cast<T>(field[i]);
}

/// Elements of a shape that a file states. Throws ModelError when no file could hold them.
std::int64_t statedCount(const onnx::TensorProto& proto) {
    std::int64_t count = 1;
    for (std::int64_t dimension : proto.dims()) {
        if (dimension < 0 || __builtin_mul_overflow(count, dimension, &count) || count > (std::int64_t{1} << 48)) {
            throw ModelError(fmt::format("tensor '{}' has shape {}", proto.name(), toString({proto.dims().begin(), proto.dims().end()})));
        }
    }
    return count;
}

/// How many field entries hold the tensor: typed fields keep one element an entry, except the packed sub-byte types.
std::int64_t fieldEntries(DType dtype, std::int64_t count) {
    return bitsPerElement(dtype) < 8 ? static_cast<std::int64_t>(packedSizeBytes(dtype, count)) : count;
}

/// Entries of the field that holds this type, -1 when there is none.
std::int64_t entriesOf(const onnx::TensorProto& proto, DType dtype) {
    switch (dtype) {
        case DType::float32: return proto.float_data_size();
        case DType::float64: return proto.double_data_size();
        case DType::int64: return proto.int64_data_size();
        case DType::uint32:
        case DType::uint64: return proto.uint64_data_size();
        default: return bitsPerElement(dtype) > 0 && bitsPerElement(dtype) <= 32 ? proto.int32_data_size() : -1;
    }
}

void copyFields(Tensor& tensor, const onnx::TensorProto& proto) {
    switch (tensor.dtype()) {
        case DType::float32: return copyField<float>(tensor, proto.float_data());
        case DType::float64: return copyField<double>(tensor, proto.double_data());
        case DType::int64: return copyField<std::int64_t>(tensor, proto.int64_data());
        case DType::uint32: return copyField<std::uint32_t>(tensor, proto.uint64_data());
        case DType::uint64: return copyField<std::uint64_t>(tensor, proto.uint64_data());
        case DType::int32: return copyField<std::int32_t>(tensor, proto.int32_data());
        default: break;
    }
    if (bitsPerElement(tensor.dtype()) == 16) return copyField<std::uint16_t>(tensor, proto.int32_data());
    copyField<std::uint8_t>(tensor, proto.int32_data());
}

}  // namespace

Tensor tensorFromProto(const onnx::TensorProto& proto) {
    const auto dtype = static_cast<DType>(proto.data_type());
    if (dtype == DType::string) {
        throw ModelError(fmt::format("tensor '{}' holds strings, which the executor does not run", proto.name()));
    }
    if (proto.data_location() == onnx::TensorProto::EXTERNAL) {
        throw ModelError(fmt::format("tensor '{}' inside an attribute keeps its data in another file: embed it",
                                     proto.name()));
    }
    const std::int64_t given = proto.has_raw_data() ? static_cast<std::int64_t>(proto.raw_data().size()) : entriesOf(proto, dtype);
    if (given < 0 || bitsPerElement(dtype) == 0) {
        throw ModelError(fmt::format("tensor '{}' has type {}, which the executor does not run", proto.name(), name(dtype)));
    }
    Shape shape(proto.dims().begin(), proto.dims().end());
    const std::int64_t count = statedCount(proto);
    const std::int64_t needed = proto.has_raw_data() ? static_cast<std::int64_t>(packedSizeBytes(dtype, count)) : fieldEntries(dtype, count);
    // Before memory is taken: the shape is only what the file says.
    if (given != needed) {
        throw ModelError(fmt::format("tensor '{}' of shape {} needs {} entries and holds {}", proto.name(), toString(shape), needed, given));
    }
    Tensor tensor(dtype, std::move(shape));
    if (!proto.has_raw_data()) {
        copyFields(tensor, proto);
    } else if (given > 0) {
        std::memcpy(tensor.mutableBytes().data(), proto.raw_data().data(), proto.raw_data().size());
    }
    return tensor;
}

namespace {

onnx::AttributeProto& attributeOf(onnx::NodeProto& node, std::string_view name, onnx::AttributeProto::AttributeType type) {
    for (onnx::AttributeProto& attribute : *node.mutable_attribute()) {
        if (attribute.name() == name) {
            attribute.Clear();
            attribute.set_name(std::string(name));
            attribute.set_type(type);
            return attribute;
        }
    }
    onnx::AttributeProto& attribute = *node.add_attribute();
    attribute.set_name(std::string(name));
    attribute.set_type(type);
    return attribute;
}

}  // namespace

void setAttribute(onnx::NodeProto& node, std::string_view name, std::int64_t value) {
    attributeOf(node, name, onnx::AttributeProto::INT).set_i(value);
}
void setAttribute(onnx::NodeProto& node, std::string_view name, float value) {
    attributeOf(node, name, onnx::AttributeProto::FLOAT).set_f(value);
}
void setAttribute(onnx::NodeProto& node, std::string_view name, std::string_view value) {
    attributeOf(node, name, onnx::AttributeProto::STRING).set_s(std::string(value));
}
void setAttribute(onnx::NodeProto& node, std::string_view name, const std::vector<std::int64_t>& values) {
    onnx::AttributeProto& attribute = attributeOf(node, name, onnx::AttributeProto::INTS);
    for (std::int64_t value : values) attribute.add_ints(value);
}

}  // namespace tcompress::exec
