#pragma once
// What an Edit has gathered: the graph as it will be, kept beside the graph as it is.

#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "lib/ir/edit.h"
#include "lib/ir/names.h"

namespace tcompress::ir {

struct DimensionChange {
    Value* value;
    std::size_t axis;
    std::int64_t size;
};

/// Uses of `from` were asked to end, except those by these nodes.
struct Replacement {
    Value* from;
    std::unordered_set<const Node*> except;
};

/// Pending nodes and values are complete but in no graph: uses and positions say nothing about them.
struct EditState {
    EditState(Model& model, std::string pass);

    Model& model;
    std::string pass;
    std::uint64_t revision;  ///< of the model when the edit began
    std::unordered_set<const Node*> knownNodes;
    std::unordered_set<const Value*> knownValues;
    FreshNames names;

    std::vector<std::unique_ptr<Node>> newNodes;  ///< their inputs and attributes are changed in place
    std::unordered_set<const Node*> isNew;
    std::vector<std::unique_ptr<Value>> newValues;  ///< outputs of newNodes and new initializers
    std::vector<Value*> newInitializers;

    std::unordered_map<const Node*, std::vector<Value*>> inputs;  ///< of existing nodes whose inputs change
    std::unordered_map<const Node*, onnx::NodeProto>
        protos;                               ///< of existing nodes whose operator or attributes change
    std::unordered_set<const Node*> touched;  ///< nodes that a call named: they get provenance
    std::unordered_map<const Value*, std::vector<Node*>>
        gainedUsers;                                   ///< nodes that may use a value they did not before
    std::vector<Value*> outputs;                       ///< the graph's outputs; null where one is removed
    std::vector<std::pair<Value*, Tensor>> constants;  ///< in the order asked for; the last one counts
    std::unordered_set<const Node*> removed;
    std::unordered_set<const Value*> removedInputs;
    std::vector<Replacement> replacements;
    std::vector<DimensionChange> dimensions;
    std::map<std::string, std::int64_t> opsets;
    bool empty = true;

    const std::vector<Value*>& inputsOf(const Node& node) const;
    /// To be changed.
    std::vector<Value*>& mutableInputsOf(Node& node);
    onnx::NodeProto& mutableProtoOf(Node& node);
    const onnx::NodeProto& protoOf(const Node& node) const;

    /// Creates a node with named outputs; the inputs are registered as uses.
    Node* addNode(NodeSpec spec);
    void setInput(Node& node, std::size_t index, Value* value);
};

/// Checks the whole edit, then applies it.
void commitEdit(EditState state);

}  // namespace tcompress::ir
