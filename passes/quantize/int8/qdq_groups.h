#pragma once
// Which operators between DequantizeLinear and QuantizeLinear ONNX Runtime computes on the codes, and which it leaves in
// float32 between conversions: what makes a quantized model slower than the original.
//
// The rules are those of the CPU provider of ONNX Runtime 1.31, kept in one small table and checked against the graphs
// that it really makes (tests/unit/passes/qdq_groups_test.cpp).

#include <string>
#include <vector>

#include "lib/ir/model.h"

namespace tcompress::passes {

/// An operator that reads a computed value through DequantizeLinear.
struct QdqGroup {
    const ir::Node* node = nullptr;
    std::string refusal;  ///< why it is not fused; empty when it is
};

/// In the graph's order.
std::vector<QdqGroup> qdqGroups(const ir::Model& model);

/// The lines of a report: how many are fused, and each that is not with its reason.
std::vector<std::string> describeQdqGroups(const ir::Model& model);

}  // namespace tcompress::passes
