#include "lib/ir/export.h"

#include <fmt/core.h>

#include <algorithm>
#include <climits>

#include "lib/ir/internals.h"
#include "lib/support/error.h"

namespace tcompress::ir {
namespace {

/// The payload that was cut, or is to be.
std::optional<Payload> payloadOf(const StoredTensor& stored) {
    if (stored.payloadField == 0) return std::nullopt;
    return Payload{stored.payloadField, stored.payloadSpan()};
}

class Exporter {
  public:
    explicit Exporter(const Model& model) : model_(model), graph_(model.graph()) {}

    Export run() {
        result_.proto = model_.envelope();
        for (const std::unique_ptr<Node>& node : graph_.nodes()) addNode(*node);
        for (const Value* value : graph_.initializers()) addInitializer(*value);
        onnx::GraphProto& proto = *result_.proto.mutable_graph();
        for (const onnx::ValueInfoProto& info : Internals::inputInfo(graph_)) *proto.add_input() = info;
        for (const onnx::ValueInfoProto& info : Internals::outputInfo(graph_)) *proto.add_output() = info;
        for (const onnx::ValueInfoProto& info : Internals::valueInfo(graph_)) addValueInfo(info);
        if (isEdited()) dropAnnotationsOfGoneTensors();
        return std::move(result_);
    }

  private:
    const Model& model_;
    const Graph& graph_;
    Export result_;

    onnx::GraphProto& proto() { return *result_.proto.mutable_graph(); }

    static void writeNames(const std::vector<Value*>& values,
                           google::protobuf::RepeatedPtrField<std::string>& names) {
        names.Clear();
        for (const Value* value : values) *names.Add() = value != nullptr ? value->name() : std::string();
    }

    void addNode(const Node& node) {
        int index = proto().node_size();
        onnx::NodeProto& written = *proto().add_node();
        written = node.proto();
        writeNames(node.inputs(), *written.mutable_input());
        writeNames(node.outputs(), *written.mutable_output());
        if (!node.is("Constant") || node.output() == nullptr || !Internals::stored(*node.output())) return;
        for (int i = 0; i < written.attribute_size(); ++i) {
            onnx::AttributeProto& attribute = *written.mutable_attribute(i);
            if (attribute.name() != "value") continue;
            const StoredTensor& stored = *Internals::stored(*node.output());
            *attribute.mutable_t() = stored.proto;
            if (auto payload = payloadOf(stored)) {
                result_.payloads.attributes.emplace(AttributePlace{index, i}, *payload);
            }
        }
    }

    void addInitializer(const Value& value) {
        const StoredTensor& stored = *Internals::stored(value);
        if (stored.sparse) {
            onnx::SparseTensorProto& written = *proto().add_sparse_initializer();
            written = *stored.sparse;
            written.mutable_values()->set_name(value.name());
            return;
        }
        int index = proto().initializer_size();
        onnx::TensorProto& written = *proto().add_initializer();
        written = stored.proto;
        written.set_name(value.name());
        if (auto payload = payloadOf(stored)) result_.payloads.initializers.emplace(index, *payload);
    }

    bool isEdited() const { return model_.revision() != Internals::loadedRevision(model_); }

    void dropAnnotationsOfGoneTensors() {
        auto& annotations = *proto().mutable_quantization_annotation();
        annotations.erase(std::remove_if(annotations.begin(), annotations.end(),
                                         [this](const onnx::TensorAnnotation& annotation) {
                                             return graph_.find(annotation.tensor_name()) == nullptr;
                                         }),
                          annotations.end());
    }

    /// What the file said about a value is written as long as it is true.
    void addValueInfo(const onnx::ValueInfoProto& info) {
        if (!isEdited()) {
            *proto().add_value_info() = info;
            return;
        }
        const Value* value = graph_.find(info.name());
        if (value == nullptr || value->type() == nullptr) return;
        onnx::ValueInfoProto& written = *proto().add_value_info();
        written = info;
        *written.mutable_type() = *value->type();
    }
};

onnx::TensorProto& tensorAt(onnx::ModelProto& proto, int initializer) {
    return *proto.mutable_graph()->mutable_initializer(initializer);
}

onnx::TensorProto& tensorAt(onnx::ModelProto& proto, AttributePlace place) {
    return *proto.mutable_graph()->mutable_node(place.node)->mutable_attribute(place.attribute)->mutable_t();
}

/// Calls visit(TensorProto&, Payload) for each tensor that misses its payload.
template <class Visit>
void forEachPayload(Export& exported, Visit&& visit) {
    for (const auto& [place, payload] : exported.payloads.initializers)
        visit(tensorAt(exported.proto, place), payload);
    for (const auto& [place, payload] : exported.payloads.attributes)
        visit(tensorAt(exported.proto, place), payload);
}

}  // namespace

Export exportModel(const Model& model) { return Exporter(model).run(); }

void markPayloadsExternal(Export& exported) {
    forEachPayload(exported, [](onnx::TensorProto& tensor, const Payload&) {
        tensor.set_data_location(onnx::TensorProto::EXTERNAL);
        onnx::StringStringEntryProto& entry = *tensor.add_external_data();
        entry.set_key("location");
        entry.set_value(std::string(noFile));
    });
}

onnx::ModelProto modelToProto(const Model& model, WeightData weights) {
    Export exported = exportModel(model);
    if (weights == WeightData::skeleton) {
        markPayloadsExternal(exported);
        return std::move(exported.proto);
    }
    std::uint64_t total = exported.proto.ByteSizeLong();
    forEachPayload(exported,
                   [&](const onnx::TensorProto&, const Payload& payload) { total += payload.bytes.size(); });
    if (total >= INT_MAX) {
        throw ModelError(
            fmt::format("a model of {} bytes does not fit into one protobuf message (2 GiB at most)", total));
    }
    forEachPayload(
        exported, [](onnx::TensorProto& tensor, const Payload& payload) { restorePayload(tensor, payload); });
    return std::move(exported.proto);
}

}  // namespace tcompress::ir
