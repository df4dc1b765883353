#include "lib/ir/graph.h"

#include <algorithm>

#include "lib/ir/internals.h"

namespace tcompress::ir {
namespace {

const onnx::TypeProto_Tensor* tensorType(const onnx::TypeProto* type) {
    return type != nullptr && type->has_tensor_type() ? &type->tensor_type() : nullptr;
}

}  // namespace

bool Value::isGraphOutput() const {
    return std::any_of(uses_.begin(), uses_.end(),
                       [](const Use& use) { return use.kind == UseKind::graphOutput; });
}

DType Value::dtype() const {
    if (const Tensor* data = initialValue()) return data->dtype();
    const onnx::TypeProto_Tensor* tensor = tensorType(type());
    return tensor != nullptr ? static_cast<DType>(tensor->elem_type()) : DType::undefined;
}

std::optional<Shape> Value::shape() const {
    if (const Tensor* data = constant()) return data->shape();
    const onnx::TypeProto_Tensor* tensor = tensorType(type());
    if (tensor == nullptr || !tensor->has_shape()) return std::nullopt;
    Shape shape;
    for (const auto& dim : tensor->shape().dim()) {
        shape.push_back(dim.has_dim_value() && dim.dim_value() >= 0 ? dim.dim_value() : -1);
    }
    return shape;
}

std::string Node::label() const {
    if (!name().empty()) return name();
    for (const Value* value : outputs_) {
        if (value != nullptr) return value->name();
    }
    return opType();
}

const onnx::AttributeProto* Node::attribute(std::string_view name) const {
    for (const onnx::AttributeProto& attribute : proto_.attribute()) {
        if (attribute.name() == name) return &attribute;
    }
    return nullptr;
}

std::int64_t Node::attributeInt(std::string_view name, std::int64_t fallback) const {
    const onnx::AttributeProto* found = attribute(name);
    return found != nullptr ? found->i() : fallback;
}

float Node::attributeFloat(std::string_view name, float fallback) const {
    const onnx::AttributeProto* found = attribute(name);
    return found != nullptr ? found->f() : fallback;
}

std::string Node::attributeString(std::string_view name, std::string_view fallback) const {
    const onnx::AttributeProto* found = attribute(name);
    return found != nullptr ? found->s() : std::string(fallback);
}

std::optional<std::vector<std::int64_t>> Node::attributeInts(std::string_view name) const {
    const onnx::AttributeProto* found = attribute(name);
    if (found == nullptr) return std::nullopt;
    return std::vector<std::int64_t>(found->ints().begin(), found->ints().end());
}

bool Node::hasSubgraph() const {
    return std::any_of(proto_.attribute().begin(), proto_.attribute().end(),
                       [](const onnx::AttributeProto& attribute) {
                           return attribute.has_g() || attribute.graphs_size() > 0;
                       });
}

std::vector<Value*> Graph::values() const {
    std::vector<Value*> all = inputs_;
    all.insert(all.end(), initializers_.begin(), initializers_.end());
    for (const std::unique_ptr<Node>& node : nodes_) {
        std::copy_if(node->outputs().begin(), node->outputs().end(), std::back_inserter(all),
                     [](const Value* value) { return value != nullptr; });
    }
    return all;
}

Value* Graph::find(std::string_view name) const {
    auto found = values_.find(name);
    return found != values_.end() ? found->second.get() : nullptr;
}

std::unique_ptr<Node> Internals::makeNode(onnx::NodeProto proto) {
    auto node = std::make_unique<Node>();
    node->domain_ = normalizedDomain(proto.domain());
    node->proto_ = std::move(proto);
    return node;
}

std::unique_ptr<Value> Internals::makeValue(std::string name) {
    auto value = std::make_unique<Value>();
    value->name_ = std::move(name);
    return value;
}

std::string normalizedDomain(const std::string& domain) {
    return domain == "ai.onnx" ? std::string() : domain;
}

}  // namespace tcompress::ir
