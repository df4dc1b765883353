#include "lib/exec/ops/support.h"

#include <algorithm>
#include <span>

namespace tcompress::exec {

void refuseType(DType type) { throw KernelError(fmt::format("no kernel for elements of type {}", name(type))); }

const std::byte* typedBytes(const Tensor& tensor) {
    if (bitsPerElement(tensor.dtype()) <= 8) return tensor.bytes().data();
    if (tensor.dtype() == DType::float16) return std::as_bytes(tensor.data<Half>()).data();
    if (tensor.dtype() == DType::bfloat16) return std::as_bytes(tensor.data<BFloat16>()).data();
    return visitNumeric(tensor.dtype(), [&](auto tag) {
        return std::as_bytes(tensor.data<typename decltype(tag)::type>()).data();
    });
}

Tensor unpackSubByte(const Tensor& tensor) {
    const int bits = bitsPerElement(tensor.dtype());
    if (bits >= 8) return tensor;
    const bool isSigned = tensor.dtype() == DType::int4 || tensor.dtype() == DType::int2;
    Tensor result(isSigned ? DType::int8 : DType::uint8, tensor.shape());
    auto* target = reinterpret_cast<std::uint8_t*>(result.mutableBytes().data());
    const auto* source = rawData<std::uint8_t>(tensor);
    const int perByte = 8 / bits;
    const int shift = 8 - bits;
    for (std::int64_t i = 0; i < tensor.size(); ++i) {
        const auto field = static_cast<std::uint8_t>(source[i / perByte] >> (i % perByte * bits) << shift);
        target[i] = isSigned ? static_cast<std::uint8_t>(static_cast<std::int8_t>(field) >> shift)
                             : static_cast<std::uint8_t>(field >> shift);
    }
    return result;
}

Tensor packSubByte(const Tensor& bytes, DType type) {
    const int bits = bitsPerElement(type);
    if (bits >= 8) return bytes;
    Tensor result(type, bytes.shape());
    auto* target = reinterpret_cast<std::uint8_t*>(result.mutableBytes().data());
    const auto* source = rawData<std::uint8_t>(bytes);
    const int perByte = 8 / bits;
    const auto mask = static_cast<std::uint8_t>((1 << bits) - 1);
    for (std::int64_t i = 0; i < bytes.size(); ++i) {
        target[i / perByte] |= static_cast<std::uint8_t>((source[i] & mask) << (i % perByte * bits));
    }
    return result;
}

std::int64_t normalizeAxis(std::int64_t axis, std::int64_t rank) {
    if (axis < -rank || axis >= rank) {
        throw ModelError(fmt::format("axis {} is out of range for rank {}", axis, rank));
    }
    return axis < 0 ? axis + rank : axis;
}

std::vector<std::int64_t> normalizeAxes(std::vector<std::int64_t> axes, std::int64_t rank) {
    for (std::int64_t& axis : axes) axis = normalizeAxis(axis, rank);
    return axes;
}

std::int64_t normalizeIndex(std::int64_t index, std::int64_t size) {
    if (index < -size || index >= size) {
        throw DataError(fmt::format("index {} is out of range for an axis of {}", index, size));
    }
    return index < 0 ? index + size : index;
}

std::vector<std::int64_t> stridesOf(const Shape& shape) {
    std::vector<std::int64_t> strides(shape.size());
    std::int64_t stride = 1;
    for (std::size_t i = shape.size(); i-- > 0;) {
        strides[i] = stride;
        if (__builtin_mul_overflow(stride, shape[i], &stride)) throw ModelError(fmt::format("shape {} has too many elements", toString(shape)));
    }
    return strides;
}

std::int64_t product(const Shape& shape, std::size_t from, std::size_t to) {
    std::int64_t result = 1;
    for (std::size_t i = from; i < to; ++i) result *= shape[i];
    return result;
}

BroadcastPlan broadcastPlan(std::initializer_list<const Tensor*> operands) {
    BroadcastPlan plan;
    std::vector<Shape> shapes;
    for (const Tensor* operand : operands) {
        plan.shape = shapes.empty() ? operand->shape() : kernels::broadcastShape(plan.shape, operand->shape());
        shapes.push_back(operand->shape());
    }
    plan.loop = kernels::broadcast(plan.shape, shapes);
    return plan;
}

std::int64_t grainFor(std::int64_t elementsPerIteration) {
    return std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(1, elementsPerIteration));
}

std::vector<std::int64_t> integers(const Tensor& tensor) {
    if (tensor.dtype() == DType::int64) {
        const auto values = tensor.data<std::int64_t>();
        return {values.begin(), values.end()};
    }
    return toInt64(tensor);
}

namespace {
void requireOneElement(const Tensor& tensor) {
    if (tensor.size() != 1) {
        throw ModelError(fmt::format("a scalar is needed where a tensor of shape {} stands", toString(tensor.shape())));
    }
}
}  // namespace

std::int64_t integerScalar(const Tensor& tensor) {
    requireOneElement(tensor);
    return integers(tensor).front();
}

float realScalar(const Tensor& tensor) {
    requireOneElement(tensor);
    return toFloat32(tensor).front();
}

}  // namespace tcompress::exec
