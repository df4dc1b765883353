#pragma once
// Arithmetic on small tensors of shape values (dimensions, indices, masks, scalar scales): just what
// exporters build shapes from. Integers and bools are computed in int64, floating-point types in double, then
// stored in their type.

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "lib/tensor/tensor.h"

namespace tcompress::analysis {

/// Values above this many elements are not followed.
inline constexpr std::int64_t kSmallValueElements = 1024;

/// Numpy broadcasting. Throws UnknownShape (shape_rules.h) when the shapes do not fit.
Shape broadcast(const Shape& a, const Shape& b);

std::vector<double> toDoubles(const Tensor& tensor);
Tensor fromInts(DType dtype, Shape shape, const std::vector<std::int64_t>& values);
Tensor fromDoubles(DType dtype, Shape shape, const std::vector<double>& values);

/// What does not fit into an int64 is no size: throws UnknownShape.
std::int64_t sum(std::int64_t a, std::int64_t b);
std::int64_t product(std::int64_t a, std::int64_t b);
/// Rounded towards zero. Throws UnknownShape when it is no int64 (NaN is none).
std::int64_t toSize(double value);

/// Row-major strides.
Shape strides(const Shape& shape);
/// result[i] = source[indices[i]], for any type of whole-byte elements.
Tensor pick(const Tensor& source, Shape shape, const std::vector<std::int64_t>& indices);
/// The source position of every element of `shape`, given the source's stride for each axis of `shape` and an
/// offset.
std::vector<std::int64_t> positions(const Shape& shape, const Shape& sourceStrides, std::int64_t offset = 0);
/// Throws UnknownShape when the tensor cannot be stretched to the shape.
Tensor broadcastTo(const Tensor& tensor, const Shape& shape);

using IntOperator = std::int64_t (*)(std::int64_t, std::int64_t);
using RealOperator = double (*)(double, double);
/// Element-wise with broadcasting; `result` is the element type of the result.
Tensor combine(const Tensor& a, const Tensor& b, DType result, IntOperator ints, RealOperator reals);

}  // namespace tcompress::analysis
