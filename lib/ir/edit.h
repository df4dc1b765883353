#pragma once
// Changes to a graph, gathered first and committed at once. Nothing touches the model before commit(), and
// commit() checks everything (names, dangling references, cycles, captured uses) before it changes anything:
// a refusal leaves the model as it was. New nodes are placed directly before their first user (topological
// order is kept, otherwise the file's order is). After a commit, nodes whose outputs nobody uses are removed
// together with their dead inputs, value types that may have changed are dropped (see inferTypes), and the
// model's revision goes up.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "lib/ir/model.h"

namespace tcompress::ir {

using AttributeValue =
    std::variant<std::int64_t, float, std::string, std::vector<std::int64_t>, std::vector<float>, Tensor>;

struct Attribute {
    std::string name;
    AttributeValue value;
};

/// What addNode makes.
struct NodeSpec {
    std::string opType;
    std::string domain;          ///< "" = standard
    std::string name;            ///< made unique; derived from the operator when empty
    std::vector<Value*> inputs;  ///< null = left out
    std::size_t outputCount = 1;
    std::vector<Attribute> attributes;
};

class Edit {
  public:
    /// `pass` is written into metadata_props ("tcompress.pass") of the nodes this edit adds or changes.
    Edit(Model& model, std::string pass);
    ~Edit();
    Edit(const Edit&) = delete;
    Edit& operator=(const Edit&) = delete;

    /// A new initializer; the name is `name` made unique. Usable at once as an input of addNode and
    /// replaceInput.
    Value* addInitializer(std::string_view name, Tensor data);
    /// Data of new initializers that would hold more than this in all wait in temporary files (lib/tensor/spilled.h),
    /// for edits that replace the weights of models of any size.
    void keepInMemory(std::uint64_t bytes);
    /// A new node and its output values, usable at once: it shows its inputs and attributes, but uses() of
    /// what it reads says nothing of it before commit().
    Node* addNode(NodeSpec spec);

    /// Other data for an initializer or Constant node; type and shape may change. Every user sees it.
    void setConstant(Value* value, Tensor data);
    void replaceInput(Node* node, std::size_t index, Value* value);  ///< null leaves an optional input out
    /// Every input use and graph output of `from` (but not uses by nodes of `except`) becomes `to`. A graph
    /// output keeps its name: the producer's output is renamed. Refused at commit when `from` is captured by
    /// a sub-graph.
    void replaceAllUses(Value* from, Value* to, std::vector<const Node*> except = {});
    void setAttribute(Node* node, Attribute attribute);
    void removeAttribute(Node* node, std::string_view name);
    void setOpType(Node* node, std::string_view opType, std::string_view domain = "");
    /// Removes the node; its outputs must be unused at commit.
    void removeNode(Node* node);
    /// Dimension of a graph input or output; -1 makes it dynamic (its name is kept).
    void setDimension(Value* graphInputOrOutput, std::size_t axis, std::int64_t size);
    /// A computed value becomes the last output of the graph, of the type that is known of it then (of none: run
    /// inferTypes before such a model is written).
    void addGraphOutput(Value* value);
    /// The value is no output of the graph any more (every listing of it goes); at least one output must
    /// remain.
    void removeGraphOutput(Value* output);
    /// Removes an input of the graph, which must be unused at commit.
    void removeGraphInput(Value* input);
    /// Makes sure the model imports `domain` with at least `version`.
    void requireOpset(std::string_view domain, std::int64_t version);

    bool empty() const;
    /// Checks, then applies. Throws InternalError for what only a bug in a pass can cause and PassError for
    /// what a model can (a captured value, for instance). The Edit is empty afterwards.
    void commit();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Removes nodes, initializers and value_info that no graph output needs (keeps graph inputs). Returns what
/// went.
struct DeadCode {
    std::size_t nodes = 0;
    std::size_t initializers = 0;
};
DeadCode removeDeadCode(Model& model);

}  // namespace tcompress::ir
