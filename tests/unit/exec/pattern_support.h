#pragma once
// For tests of the fused plan: small models in ONNX text, run fused and node by node.

#include <string>
#include <string_view>
#include <vector>

#include "lib/exec/executor.h"
#include "lib/ir/model.h"

namespace tcompress::test {

/// Normally distributed, the same for the same name.
Tensor randomTensor(Shape shape, std::string_view name);

/// A model of opset `opset` and com.microsoft 1: `signature` is "(inputs) => (outputs) <initializers>".
ir::Model textModel(const std::string& signature, const std::string& body, int opset = 21);

/// Runs both ways, compares the outputs (tolerance relative to the largest element of each) and returns the
/// kinds of operators that the fused plan ran.
std::vector<std::string> runBoth(const ir::Model& model, const exec::Feeds& feeds, double tolerance = 1e-5);

bool has(const std::vector<std::string>& kinds, const std::string& kind);

}  // namespace tcompress::test
