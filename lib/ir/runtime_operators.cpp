#include "lib/ir/runtime_operators.h"

#include <algorithm>

#include "lib/ir/internals.h"

namespace tcompress::ir {

namespace {

constexpr const char* kRuntimeDomain = "com.microsoft";
constexpr std::int64_t kOnnxHasLayerNormalization = 17;

bool moveIn(onnx::GraphProto& graph, std::int64_t opset) {
    bool moved = false;
    for (onnx::NodeProto& node : *graph.mutable_node()) {
        if (isRuntimeOperator(node, opset)) {
            node.set_domain(kRuntimeDomain);
            moved = true;
        }
        for (onnx::AttributeProto& attribute : *node.mutable_attribute()) {
            if (attribute.has_g()) moved = moveIn(*attribute.mutable_g(), opset) || moved;
            for (onnx::GraphProto& body : *attribute.mutable_graphs()) moved = moveIn(body, opset) || moved;
        }
    }
    return moved;
}

}  // namespace

bool isRuntimeOperator(const onnx::NodeProto& node, std::int64_t opset) {
    if (!normalizedDomain(node.domain()).empty()) return false;
    return node.op_type() == "SimplifiedLayerNormalization" ||
           (node.op_type() == "LayerNormalization" && opset < kOnnxHasLayerNormalization);
}

void moveRuntimeOperators(onnx::ModelProto& model) {
    std::int64_t opset = 0;
    bool imports = false;
    for (const onnx::OperatorSetIdProto& import : model.opset_import()) {
        if (normalizedDomain(import.domain()).empty()) opset = import.version();
        imports = imports || import.domain() == kRuntimeDomain;
    }
    if (!moveIn(*model.mutable_graph(), opset) || imports) return;
    onnx::OperatorSetIdProto& import = *model.add_opset_import();
    import.set_domain(kRuntimeDomain);
    import.set_version(1);
}

}  // namespace tcompress::ir
