#pragma once
// Looks along a plan graph in both directions and replaces a node by one that computes the same value from earlier
// ones. What nobody reads afterwards is removed at the end, so a rewrite never has to say what it makes superfluous,
// and a value that something else reads (another node, an observer, the graph's outputs) simply stays.

#include <list>
#include <optional>
#include <unordered_map>

#include "lib/exec/plan_graph.h"

namespace tcompress::exec {

class Rewriter {
  public:
    explicit Rewriter(PlanGraph& graph);
    /// Nodes in topological order; a pattern may replace the node it is called with.
    template <class Visit>
    void forEach(Visit&& visit) {
        for (auto at = nodes_.begin(); at != nodes_.end();) {
            PlanNode& node = *at;
            ++at;
            visit(node);
        }
    }

    PlanGraph& graph() { return graph_; }
    const PlanGraph& graph() const { return graph_; }
    /// Null for inputs and constants.
    PlanNode* producer(ValueId value) const;
    /// The producer when it is this standard operator.
    PlanNode* producer(ValueId value, std::string_view opType) const;
    /// One entry a use.
    const std::vector<PlanNode*>& users(ValueId value) const { return users_[static_cast<std::size_t>(value)]; }
    /// The only user of a value that need not exist for anybody else; null otherwise.
    PlanNode* soleUser(ValueId value) const;
    bool vanishes(ValueId value) const { return soleUser(value) != nullptr; }

    const Tensor* constant(ValueId value) const { return graph_.constant(value); }
    /// A constant with one element, as float.
    std::optional<float> scalar(ValueId value) const;
    /// For a node with two inputs: the constant scalar and the other input, in either order.
    struct ScalarOperand {
        ValueId other = kNoValue;
        float scalar = 0;
    };
    std::optional<ScalarOperand> scalarOperand(const PlanNode& node) const;

    /// A node whose NodeProto carries the attributes that `fill` sets.
    PlanNode make(std::string_view domain, std::string_view opType, std::vector<ValueId> inputs, std::vector<ValueId> outputs,
                  const std::string& name, std::int64_t version = 1) const;
    /// The same operator with the same attributes for other values.
    PlanNode copyOf(const PlanNode& node, std::vector<ValueId> inputs, std::vector<ValueId> outputs) const;
    /// Replaces `old` by `replacement`, which computes the same outputs.
    PlanNode* replace(PlanNode& old, PlanNode replacement);
    /// Adds a node just before `place`; its output is a new value, which is returned.
    ValueId insertBefore(PlanNode& place, std::string_view domain, std::string_view opType, std::vector<ValueId> inputs, DType type,
                         std::int64_t version = 1);
    PlanNode* insertAfter(PlanNode& place, PlanNode node);
    PlanNode* insertFront(PlanNode node);
    /// Every use of `from` by a node becomes `to`; `from` must not be kept.
    void redirect(ValueId from, ValueId to);
    /// Removes nodes without a reader and writes the nodes back to the graph.
    void finish();

  private:
    PlanNode* insertAt(std::list<PlanNode>::iterator at, PlanNode node);
    void link(PlanNode& node);
    void unlink(PlanNode& node);

    PlanGraph& graph_;
    std::list<PlanNode> nodes_;
    std::unordered_map<const PlanNode*, std::list<PlanNode>::iterator> places_;
    std::vector<PlanNode*> producers_;
    std::vector<std::vector<PlanNode*>> users_;
};

/// The attributes of a node that Rewriter::make made.
onnx::NodeProto& protoOf(PlanNode& node);

}  // namespace tcompress::exec
