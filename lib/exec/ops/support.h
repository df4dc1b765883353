#pragma once
// What the operators share: type dispatch, axes, broadcasting.

#include <fmt/core.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kernels/elementwise.h"
#include "lib/exec/op_registry.h"
#include "lib/support/error.h"
#include "lib/support/parallel.h"

namespace tcompress::exec {

template <class T>
struct TypeTag {
    using type = T;
};

[[noreturn]] void refuseType(DType type);

/// Calls body(TypeTag<T>{}) for the C++ type of an arithmetic element type (not bool, not 16-bit floats).
template <class Body>
decltype(auto) visitNumeric(DType type, Body&& body) {
    switch (type) {
        case DType::float32: return body(TypeTag<float>{});
        case DType::float64: return body(TypeTag<double>{});
        case DType::int8: return body(TypeTag<std::int8_t>{});
        case DType::uint8: return body(TypeTag<std::uint8_t>{});
        case DType::int16: return body(TypeTag<std::int16_t>{});
        case DType::uint16: return body(TypeTag<std::uint16_t>{});
        case DType::int32: return body(TypeTag<std::int32_t>{});
        case DType::uint32: return body(TypeTag<std::uint32_t>{});
        case DType::int64: return body(TypeTag<std::int64_t>{});
        case DType::uint64: return body(TypeTag<std::uint64_t>{});
        default: refuseType(type);
    }
}

/// visitNumeric with bool as well.
template <class Body>
decltype(auto) visitLogic(DType type, Body&& body) {
    if (type == DType::boolean) return body(TypeTag<bool>{});
    return visitNumeric(type, std::forward<Body>(body));
}

template <class Body>
decltype(auto) visitFloat(DType type, Body&& body) {
    if (type == DType::float32) return body(TypeTag<float>{});
    if (type == DType::float64) return body(TypeTag<double>{});
    refuseType(type);
}

/// Calls body with an unsigned type of the element's width: for operators that only move elements.
template <class Body>
decltype(auto) visitWidth(DType type, Body&& body) {
    switch (bitsPerElement(type)) {
        case 8: return body(TypeTag<std::uint8_t>{});
        case 16: return body(TypeTag<std::uint16_t>{});
        case 32: return body(TypeTag<std::uint32_t>{});
        case 64: return body(TypeTag<std::uint64_t>{});
        default: refuseType(type);
    }
}

/// The bytes of a tensor at an address that suits its type, as Tensor::data: the payloads of a mapped file lie anywhere.
const std::byte* typedBytes(const Tensor& tensor);

/// Elements by width, whatever the type.
template <class T>
const T* rawData(const Tensor& tensor) {
    return reinterpret_cast<const T*>(typedBytes(tensor));
}

/// 4-bit and 2-bit tensors as (u)int8 elements, others as they are; and back.
Tensor unpackSubByte(const Tensor& tensor);
Tensor packSubByte(const Tensor& bytes, DType type);

/// Axis counted from the end when negative. Throws ModelError when out of range [-rank, rank).
std::int64_t normalizeAxis(std::int64_t axis, std::int64_t rank);
std::vector<std::int64_t> normalizeAxes(std::vector<std::int64_t> axes, std::int64_t rank);

/// Index counted from the end when negative. Throws DataError when out of range: indices are mostly fed.
std::int64_t normalizeIndex(std::int64_t index, std::int64_t size);

/// Row-major strides in elements.
std::vector<std::int64_t> stridesOf(const Shape& shape);
std::int64_t product(const Shape& shape, std::size_t from, std::size_t to);

/// The kernels' broadcasting of dense operands, with its result's shape.
struct BroadcastPlan {
    Shape shape;
    kernels::Broadcast loop;
};
BroadcastPlan broadcastPlan(std::initializer_list<const Tensor*> operands);

/// Number of outer iterations that make one piece of parallel work of about 32 Ki elements.
std::int64_t grainFor(std::int64_t elementsPerIteration);

/// Values of an integer input or constant.
std::vector<std::int64_t> integers(const Tensor& tensor);
std::int64_t integerScalar(const Tensor& tensor);
float realScalar(const Tensor& tensor);

}  // namespace tcompress::exec
