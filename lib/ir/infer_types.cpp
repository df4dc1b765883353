#include <onnx/shape_inference/implementation.h>

#include "lib/ir/bounded_schemas.h"
#include "lib/ir/internals.h"
#include "lib/ir/load.h"
#include "lib/support/log.h"

namespace tcompress::ir {
namespace {

bool infer(onnx::ModelProto& proto) {
    try {
        onnx::ShapeInferenceOptions options{false, 0, true};
        onnx::shape_inference::InferShapes(proto, boundedSchemas(), options);
        return true;
    } catch (const std::exception& problem) {
        log::debug("shape inference: {}", problem.what());
        return false;
    }
}

void forgetDeclaredShapes(onnx::ModelProto& proto) {
    proto.mutable_graph()->clear_value_info();
    for (onnx::ValueInfoProto& output : *proto.mutable_graph()->mutable_output()) {
        if (output.type().has_tensor_type()) output.mutable_type()->mutable_tensor_type()->clear_shape();
    }
}

/// Everything known, so that inference can go on behind operators that it does not know.
void declareKnownTypes(const Graph& graph, onnx::GraphProto& proto) {
    proto.clear_value_info();
    for (const std::unique_ptr<Node>& node : graph.nodes()) {
        for (const Value* value : node->outputs()) {
            if (value == nullptr || value->type() == nullptr || value->isGraphOutput()) continue;
            onnx::ValueInfoProto& info = *proto.add_value_info();
            info.set_name(value->name());
            *info.mutable_type() = *value->type();
        }
    }
}

}  // namespace

void inferTypes(Model& model) {
    onnx::ModelProto proto = modelToProto(model, WeightData::skeleton);
    declareKnownTypes(model.graph(), *proto.mutable_graph());
    if (!infer(proto)) {
        // Inference gives up as a whole when a declared shape contradicts an inferred one.
        proto = modelToProto(model, WeightData::skeleton);
        forgetDeclaredShapes(proto);
        if (!infer(proto)) return;
    }
    auto take = [&](onnx::ValueInfoProto& info) {
        Value* value = model.graph().find(info.name());
        if (value != nullptr && info.has_type()) Internals::type(*value) = std::move(*info.mutable_type());
    };
    for (onnx::ValueInfoProto& info : *proto.mutable_graph()->mutable_value_info()) take(info);
    for (onnx::ValueInfoProto& info : *proto.mutable_graph()->mutable_output()) take(info);
}

}  // namespace tcompress::ir
