#pragma once
// Parts of tensors along one axis.

#include <span>

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

/// The parts one behind the other. Throws ModelError when they differ in type or in another dimension.
Tensor concatenate(OpContext& context, std::span<const Tensor* const> parts, std::int64_t axis);
/// Equal parts behind each other along a new axis.
Tensor stack(OpContext& context, const std::vector<Tensor>& parts, std::int64_t axis);
/// ModelError unless no size is negative and all add up to the axis that is split into parts of them.
void requireSplit(const std::vector<std::int64_t>& sizes, std::int64_t axisSize);
/// Positions [begin, begin + size) of an axis.
Tensor rangeOf(OpContext& context, const Tensor& x, std::size_t axis, std::int64_t begin, std::int64_t size);
/// One position of an axis, the axis gone.
Tensor elementOf(OpContext& context, const Tensor& x, std::size_t axis, std::int64_t index);

}  // namespace tcompress::exec
