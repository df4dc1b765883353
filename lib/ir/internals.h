#pragma once
// The one door to the private parts of the overlay, for the files of lib/ir only. Whoever changes nodes,
// inputs or outputs ends with indexGraph(), which makes positions, captured values and use lists true again.

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "lib/ir/model.h"
#include "lib/ir/stored_tensor.h"

namespace tcompress::ir {

struct Internals {
    static auto& name(Value& value) { return value.name_; }
    static auto& producer(Value& value) { return value.producer_; }
    static auto& uses(Value& value) { return value.uses_; }
    static auto& graphInput(Value& value) { return value.graphInput_; }
    static auto& constantKind(Value& value) { return value.constantKind_; }
    static auto& constant(Value& value) { return value.constant_; }
    static auto& stored(Value& value) { return value.stored_; }
    static const auto& stored(const Value& value) { return value.stored_; }
    static auto& type(Value& value) { return value.type_; }

    static auto& proto(Node& node) { return node.proto_; }
    static auto& domain(Node& node) { return node.domain_; }
    static auto& inputs(Node& node) { return node.inputs_; }
    static auto& outputs(Node& node) { return node.outputs_; }
    static auto& captured(Node& node) { return node.captured_; }
    static auto& position(Node& node) { return node.position_; }

    static auto& nodes(Graph& graph) { return graph.nodes_; }
    static auto& values(Graph& graph) { return graph.values_; }
    static const auto& values(const Graph& graph) { return graph.values_; }
    static auto& inputs(Graph& graph) { return graph.inputs_; }
    static auto& outputs(Graph& graph) { return graph.outputs_; }
    static auto& initializers(Graph& graph) { return graph.initializers_; }
    static auto& inputInfo(Graph& graph) { return graph.inputInfo_; }
    static const auto& inputInfo(const Graph& graph) { return graph.inputInfo_; }
    static auto& outputInfo(Graph& graph) { return graph.outputInfo_; }
    static const auto& outputInfo(const Graph& graph) { return graph.outputInfo_; }
    static auto& valueInfo(Graph& graph) { return graph.valueInfo_; }
    static const auto& valueInfo(const Graph& graph) { return graph.valueInfo_; }

    static auto& envelope(Model& model) { return model.envelope_; }
    static auto& path(Model& model) { return model.path_; }
    static auto& revision(Model& model) { return model.revision_; }
    /// A number no state of any model has had in this process, larger than all before: what was found out about one model
    /// is never taken for another's that a new one's address makes look like it.
    static std::uint64_t nextRevision();
    static auto& loadedRevision(Model& model) { return model.loadedRevision_; }
    static auto loadedRevision(const Model& model) { return model.loadedRevision_; }

    /// A node without inputs and outputs yet, holding `proto`.
    static std::unique_ptr<Node> makeNode(onnx::NodeProto proto);
    /// A value that is in no graph yet.
    static std::unique_ptr<Value> makeValue(std::string name);
};

/// The standard domain has two spellings.
std::string normalizedDomain(const std::string& domain);

}  // namespace tcompress::ir
