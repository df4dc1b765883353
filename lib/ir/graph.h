#pragma once
// The graph of a model as a use-def overlay over the protobuf. A Node keeps its whole NodeProto (attributes,
// doc strings, metadata, fields this program has never heard of); only input and output names are lifted into
// Values that know their producer and every use. Constant data (initializers, dense Constant nodes) are
// Tensors that share the mapped file. Nodes are kept in a topological order, which for an unedited model is
// the file's own order.
//
// Reading is free for everybody; every change goes through Edit (edit.h).

#include <onnx/onnx_pb.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lib/tensor/tensor.h"

namespace tcompress::ir {

class Node;
class Graph;
struct StoredTensor;
struct Internals;

enum class UseKind {
    input,        ///< an input of a node
    captured,     ///< named inside a sub-graph (If, Loop, Scan body) of the node
    graphOutput,  ///< an output of the graph; node is null and index is the output's position
};

struct Use {
    Node* node = nullptr;
    std::size_t index = 0;
    UseKind kind = UseKind::input;
    bool operator==(const Use&) const = default;
};

enum class ConstantKind {
    none,          ///< computed at run time
    initializer,   ///< in graph.initializer (or sparse_initializer)
    constantNode,  ///< the output of a Constant node
};

class Value {
  public:
    const std::string& name() const { return name_; }
    /// Null for graph inputs and initializers.
    Node* producer() const { return producer_; }
    const std::vector<Use>& uses() const { return uses_; }
    bool isGraphInput() const { return graphInput_; }
    bool isGraphOutput() const;

    ConstantKind constantKind() const { return constantKind_; }
    /// The data of an initializer or Constant node; null when the value is computed, and for data that are
    /// kept but not understood (strings, types this program does not know). A graph input that has an
    /// initializer (a default that a caller may replace) is not constant.
    const Tensor* constant() const { return constantKind_ == ConstantKind::none ? nullptr : &constant_; }

    /// constant(), or the default of a graph input that a caller may leave out; null when there is neither.
    const Tensor* initialValue() const {
        return constant_.dtype() == DType::undefined ? nullptr : &constant_;
    }

    /// Declared (graph input/output, value_info) or inferred type; null when nothing is known.
    const onnx::TypeProto* type() const { return type_ ? &*type_ : nullptr; }
    /// Element type from constant() or type(); undefined when unknown.
    DType dtype() const;
    /// Dimensions from constant() or type(): -1 for a dynamic one; nullopt when the rank is unknown.
    std::optional<Shape> shape() const;

  private:
    friend struct Internals;
    std::string name_;
    Node* producer_ = nullptr;
    std::vector<Use> uses_;
    bool graphInput_ = false;
    ConstantKind constantKind_ = ConstantKind::none;
    Tensor constant_;
    /// How a file stores constant_; null for the scalars and lists of Constant nodes, which are in the
    /// attribute.
    std::shared_ptr<const StoredTensor> stored_;
    std::optional<onnx::TypeProto> type_;
};

class Node {
  public:
    const std::string& opType() const { return proto_.op_type(); }
    /// "" for the standard domain ("ai.onnx" is normalised to "").
    const std::string& domain() const { return domain_; }
    const std::string& name() const { return proto_.name(); }
    /// name(), or the first output's name, or the operator: what messages call this node. Never empty.
    std::string label() const;
    /// True for an operator of the standard domain with this type.
    bool is(std::string_view opType) const { return domain_.empty() && proto_.op_type() == opType; }
    bool is(std::string_view domain, std::string_view opType) const {
        return domain_ == domain && proto_.op_type() == opType;
    }

    const std::vector<Value*>& inputs() const {
        return inputs_;
    }  ///< null where an optional input is left out
    const std::vector<Value*>& outputs() const { return outputs_; }  ///< null where an output is left out
    /// Null when there is no such input, or it is left out.
    Value* input(std::size_t i) const { return i < inputs_.size() ? inputs_[i] : nullptr; }
    Value* output(std::size_t i = 0) const { return i < outputs_.size() ? outputs_[i] : nullptr; }

    /// The NodeProto. Its input and output name lists are only brought up to date when the model is written.
    const onnx::NodeProto& proto() const { return proto_; }

    const onnx::AttributeProto* attribute(std::string_view name) const;
    std::int64_t attributeInt(std::string_view name, std::int64_t fallback) const;
    float attributeFloat(std::string_view name, float fallback) const;
    std::string attributeString(std::string_view name, std::string_view fallback) const;
    std::optional<std::vector<std::int64_t>> attributeInts(std::string_view name) const;
    bool hasSubgraph() const;
    /// Values of this graph that sub-graphs of the node name, each once.
    const std::vector<Value*>& captured() const { return captured_; }

    /// Position in graph.nodes(); changes with edits.
    std::size_t position() const { return position_; }

  private:
    friend struct Internals;
    onnx::NodeProto proto_;
    std::string domain_;
    std::vector<Value*> inputs_;
    std::vector<Value*> outputs_;
    std::vector<Value*> captured_;
    std::size_t position_ = 0;
};

class Graph {
  public:
    Graph() = default;
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    /// In topological order.
    const std::vector<std::unique_ptr<Node>>& nodes() const { return nodes_; }
    /// Graph inputs that are not initializers, in order.
    const std::vector<Value*>& inputs() const { return inputs_; }
    const std::vector<Value*>& outputs() const { return outputs_; }
    /// Initializers in file order.
    const std::vector<Value*>& initializers() const { return initializers_; }
    /// Every value, in a fixed order: inputs, initializers, then node outputs in node order.
    std::vector<Value*> values() const;
    /// Null when there is no value of this name.
    Value* find(std::string_view name) const;

  private:
    friend struct Internals;
    struct Hash {
        using is_transparent = void;
        std::size_t operator()(std::string_view name) const { return std::hash<std::string_view>()(name); }
    };
    std::vector<std::unique_ptr<Node>> nodes_;
    std::unordered_map<std::string, std::unique_ptr<Value>, Hash, std::equal_to<>> values_;
    std::vector<Value*> inputs_;
    std::vector<Value*> outputs_;
    std::vector<Value*> initializers_;
    // What the file says about inputs, outputs and values between: names, doc strings, declared types.
    std::vector<onnx::ValueInfoProto> inputInfo_;
    std::vector<onnx::ValueInfoProto> outputInfo_;
    std::vector<onnx::ValueInfoProto> valueInfo_;
};

}  // namespace tcompress::ir
