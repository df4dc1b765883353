#include "lib/exec/functions.h"

#include <onnx/defs/function.h>
#include <onnx/defs/schema.h>

#include <map>
#include <algorithm>

namespace tcompress::exec {

namespace {

std::string normalizedDomain(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

using Names = std::map<std::string, std::string>;
using Values = std::map<std::string, onnx::AttributeProto>;

void rename(std::string& name, const Names& names) {
    const auto found = names.find(name);
    if (found != names.end()) name = found->second;
}

void instantiateNode(onnx::NodeProto& node, const Names& names, const Values& values);

/// Names that the body defines hide those outside.
void instantiateGraph(onnx::GraphProto& graph, Names names, const Values& values) {
    for (const onnx::ValueInfoProto& input : graph.input()) names.erase(input.name());
    for (const onnx::TensorProto& initializer : graph.initializer()) names.erase(initializer.name());
    for (const onnx::NodeProto& node : graph.node()) {
        for (const std::string& output : node.output()) names.erase(output);
    }
    for (onnx::NodeProto& node : *graph.mutable_node()) instantiateNode(node, names, values);
    for (onnx::ValueInfoProto& output : *graph.mutable_output()) rename(*output.mutable_name(), names);
}

void instantiateNode(onnx::NodeProto& node, const Names& names, const Values& values) {
    for (std::string& input : *node.mutable_input()) rename(input, names);
    for (std::string& output : *node.mutable_output()) rename(output, names);
    google::protobuf::RepeatedPtrField<onnx::AttributeProto> attributes;
    for (onnx::AttributeProto& attribute : *node.mutable_attribute()) {
        if (!attribute.ref_attr_name().empty()) {
            const auto given = values.find(attribute.ref_attr_name());
            if (given == values.end()) continue;  // left out by the caller: the operator's own default holds
            onnx::AttributeProto filled = given->second;
            filled.set_name(attribute.name());
            *attributes.Add() = std::move(filled);
            continue;
        }
        if (attribute.has_g()) instantiateGraph(*attribute.mutable_g(), names, values);
        for (onnx::GraphProto& graph : *attribute.mutable_graphs()) instantiateGraph(graph, names, values);
        *attributes.Add() = std::move(attribute);
    }
    node.mutable_attribute()->Swap(&attributes);
}

}  // namespace

const onnx::FunctionProto* localFunction(const onnx::ModelProto& envelope, const onnx::NodeProto& node, const std::string& domain) {
    for (const onnx::FunctionProto& function : envelope.functions()) {
        if (function.name() == node.op_type() && normalizedDomain(function.domain()) == domain && function.overload() == node.overload()) {
            return &function;
        }
    }
    return nullptr;
}

std::optional<onnx::FunctionProto> standardFunction(const onnx::NodeProto& node, const std::string& domain, std::int64_t version,
                                                    const std::vector<const onnx::TypeProto*>& inputTypes) {
    const onnx::OpSchema* schema = onnx::OpSchemaRegistry::Schema(node.op_type(), static_cast<int>(version), domain);
    if (!schema) return std::nullopt;
    const auto withDefaults = [&](onnx::FunctionProto body) {
        for (const auto& [name, attribute] : schema->attributes()) {
            if (attribute.default_value.name().empty() || attribute.required) continue;
            *body.add_attribute_proto() = attribute.default_value;
        }
        return body;
    };
    if (schema->HasFunction()) {
        const onnx::FunctionProto* body = schema->GetFunction(static_cast<int>(version));
        if (body) return withDefaults(*body);
    }
    if (!schema->HasContextDependentFunction()) return std::nullopt;
    std::vector<onnx::TypeProto> types;
    for (const onnx::TypeProto* type : inputTypes) types.push_back(type ? *type : onnx::TypeProto());
    const onnx::FunctionBodyBuildContextImpl context(node, types);
    onnx::FunctionProto body;
    if (!schema->BuildContextDependentFunction(context, body, static_cast<int>(version))) return std::nullopt;
    return withDefaults(std::move(body));
}

std::vector<onnx::NodeProto> instantiate(const onnx::FunctionProto& function, const onnx::NodeProto& call, const std::string& prefix) {
    Names names;
    for (const onnx::NodeProto& node : function.node()) {
        for (const std::string& output : node.output()) {
            if (!output.empty()) names[output] = prefix + output;
        }
    }
    for (int i = 0; i < function.input_size(); ++i) names[function.input(i)] = i < call.input_size() ? call.input(i) : "";
    std::vector<onnx::NodeProto> nodes;
    std::vector<onnx::NodeProto> copies;
    for (int i = 0; i < function.output_size() && i < call.output_size(); ++i) {
        if (call.output(i).empty()) continue;
        const auto isInput = std::find(function.input().begin(), function.input().end(), function.output(i)) != function.input().end();
        if (!isInput) {
            names[function.output(i)] = call.output(i);
            continue;
        }
        onnx::NodeProto identity;
        identity.set_op_type("Identity");
        identity.add_input(names[function.output(i)]);
        identity.add_output(call.output(i));
        copies.push_back(std::move(identity));
    }
    Values values;
    for (const onnx::AttributeProto& attribute : function.attribute_proto()) values[attribute.name()] = attribute;
    for (const onnx::AttributeProto& attribute : call.attribute()) values[attribute.name()] = attribute;
    for (const onnx::NodeProto& node : function.node()) {
        nodes.push_back(node);
        instantiateNode(nodes.back(), names, values);
        if (nodes.back().name().empty()) nodes.back().set_name(prefix + node.op_type());
    }
    nodes.insert(nodes.end(), std::make_move_iterator(copies.begin()), std::make_move_iterator(copies.end()));
    return nodes;
}

}  // namespace tcompress::exec
