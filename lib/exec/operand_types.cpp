#include "lib/exec/operand_types.h"

#include <fmt/core.h>
#include <onnx/defs/schema.h>

#include <algorithm>
#include <map>

namespace tcompress::exec {

namespace {

/// As ONNX writes types: "tensor(int64)".
std::string typeName(DType type) {
    if (type == DType::float64) return "tensor(double)";
    if (type == DType::float32) return "tensor(float)";
    return fmt::format("tensor({})", name(type));
}

}  // namespace

std::string typeMisfit(const PlanNode& node, std::span<const Datum* const> inputs) {
    const onnx::OpSchema* schema =
        onnx::OpSchemaRegistry::Schema(node.opType(), static_cast<int>(node.version), node.domain);
    if (schema == nullptr) return {};
    std::map<std::string, DType> bound;  // of the definition's type variables
    for (std::size_t i = 0; i < std::min(inputs.size(), schema->inputs().size()); ++i) {
        if (inputs[i] == nullptr || !inputs[i]->isTensor()) continue;
        const onnx::OpSchema::FormalParameter& formal = schema->inputs()[i];
        const DType type = inputs[i]->tensor.dtype();
        const auto isTaken = [&](const std::string* taken) { return *taken == typeName(type); };
        if (std::ranges::none_of(formal.GetTypes(), isTaken))
            return fmt::format("input '{}' is {}, and the operator takes none", formal.GetName(), name(type));
        const DType first = bound.try_emplace(formal.GetTypeStr(), type).first->second;
        if (first != type)
            return fmt::format("input '{}' is {} beside {}", formal.GetName(), name(type), name(first));
    }
    return {};
}

}  // namespace tcompress::exec
