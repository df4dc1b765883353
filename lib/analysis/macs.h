#pragma once
// Multiply-accumulates of products at given shapes. Private to lib/analysis.

#include <cstdint>

#include "lib/analysis/axes.h"

namespace tcompress::analysis {

/// 0 when a shape is not known.
std::int64_t linearMacs(const ModelAxes& axes, const LinearContraction& linear, const ConcreteShapes& shapes);
std::int64_t matmulMacs(const ActivationMatmul& matmul, const ConcreteShapes& shapes);
/// The two products inside a fused attention operator (its projections are linear layers of their own).
std::int64_t attentionMacs(const ModelAxes& axes, const FusedAttention& attention,
                           const ConcreteShapes& shapes);
/// A convolution in groups, which is no linear layer here; 0 for other nodes.
std::int64_t groupedConvMacs(const ir::Node& node, const ConcreteShapes& shapes);

}  // namespace tcompress::analysis
