#pragma once
// How the gradient goes backward through one node.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lib/ir/edit.h"
#include "lib/ir/emit.h"
#include "lib/train/gradient.h"

namespace tcompress::train {

/// Gradients gathered so far, by value; where several nodes read a value they are added up.
using Gradients = std::map<const ir::Value*, ir::Value*>;

class NodeGradient {
  public:
    NodeGradient(ir::Edit& edit, const ir::Model& model, const ir::Node& node, const SeenValues& seen,
                 const std::vector<bool>& wanted, Gradients& gradients)
        : edit_(edit), model_(model), node_(node), seen_(seen), wanted_(wanted), gradients_(gradients) {}

    const ir::Node& node() const { return node_; }
    /// An input of the node that is there.
    ir::Value* x(std::size_t i = 0) const { return node_.input(i); }
    ir::Value* y(std::size_t i = 0) const { return node_.output(i); }
    /// Gradient by an output; null when nothing depends on it.
    ir::Value* dy(std::size_t i = 0) const;
    /// Whether the gradient by an input is asked for.
    bool wants(std::size_t i) const { return i < wanted_.size() && wanted_[i]; }
    std::int64_t opset() const { return model_.opset(); }
    Shape shapeOf(const ir::Value* value) const;
    const SeenValues& seen() const { return seen_; }
    std::int64_t rankOf(const ir::Value* value) const { return static_cast<std::int64_t>(shapeOf(value).size()); }

    /// Adds a gradient of the shape of input i.
    void add(std::size_t i, ir::Value* gradient);
    /// The same of the output's shape, where the input was repeated along axes.
    void addBroadcast(std::size_t i, ir::Value* gradient);
    /// The same elements in another order of the axes of size one, or another split of the axes.
    void addReshaped(std::size_t i, ir::Value* gradient);

    ir::Value* emit(std::string_view opType, std::vector<ir::Value*> inputs, std::vector<ir::Attribute> attributes = {}) const {
        return ir::emit(edit_, opType, std::move(inputs), std::move(attributes));
    }
    ir::Value* number(float value) const;
    ir::Value* integers(const std::vector<std::int64_t>& values) const { return ir::emitIntegers(edit_, values); }
    /// op(a) · op(b) over the last two axes.
    ir::Value* product(ir::Value* a, bool transposeA, ir::Value* b, bool transposeB, float scale = 1) const;
    /// Sums (or means) over axes, which stay with size one.
    ir::Value* sum(ir::Value* value, const std::vector<std::int64_t>& axes) const;
    ir::Value* mean(ir::Value* value, const std::vector<std::int64_t>& axes) const;
    /// Zeros around: `before` and `after` along one axis of a value of this rank.
    ir::Value* padded(ir::Value* value, std::int64_t rank, std::int64_t axis, std::int64_t before, std::int64_t after) const;
    ir::Value* slice(ir::Value* value, std::int64_t axis, std::int64_t begin, std::int64_t end) const;

  private:
    ir::Edit& edit_;
    const ir::Model& model_;
    const ir::Node& node_;
    const SeenValues& seen_;
    const std::vector<bool>& wanted_;
    Gradients& gradients_;
};

/// Adds the gradients of the node's inputs that are wanted; there is a gradient by one of its outputs at least.
using Rule = void (*)(NodeGradient&);

/// What the operator is to gradients.
struct NodeRule {
    enum class Kind {
        rule,
        constant,  ///< its outputs do not move with its inputs (shapes, comparisons), or only in steps
        none,      ///< unknown
    };
    Kind kind = Kind::none;
    Rule rule = nullptr;
};
/// Before this version operators keep in attributes what rules look for in operands.
inline constexpr std::int64_t kFewestOpset = 11;
/// Looks at the node's attributes and constant operands too: a rule may be for some of an operator's forms only.
NodeRule ruleFor(const ir::Model& model, const ir::Node& node, const SeenValues& seen);

/// Parts of the table: null when the operator is another group's, or of a form without a rule.
Rule elementwiseRule(const ir::Node& node, const SeenValues& seen);
Rule layoutRule(const ir::Node& node, const SeenValues& seen);
Rule linearRule(const ir::Node& node, const SeenValues& seen);
Rule normRule(const ir::Model& model, const ir::Node& node, const SeenValues& seen);

/// An operand of a few integers, constant or the same in every run; nothing when it is not there.
std::optional<std::vector<std::int64_t>> integersOf(const ir::Value* value, const SeenValues& seen);
/// A constant number; nothing when it is not there, computed, or several.
std::optional<float> constantNumber(const ir::Value* value);
/// From [-rank, rank) to [0, rank).
inline std::int64_t countedAxis(std::int64_t axis, std::int64_t rank) { return axis < 0 ? axis + rank : axis; }

}  // namespace tcompress::train
