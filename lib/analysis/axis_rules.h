#pragma once
// How an operator relates the axes of its inputs to those of its outputs. One rule an operator, one file a
// family of operators; axes.cpp applies them in topological order. Private to lib/analysis.

#include <cstddef>
#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "lib/analysis/axes.h"

namespace tcompress::analysis {

class AxisBuilder;

/// Thrown by a rule that does not understand its node: the axes of its inputs are frozen and its outputs get
/// fresh frozen ones.
class NotUnderstood {
  public:
    explicit NotUnderstood(std::string reason) : reason_(std::move(reason)) {}
    const std::string& reason() const { return reason_; }

  private:
    std::string reason_;
};

/// What a rule sees of its node. Axes are lists that share atoms with everything they were united with.
class NodeAxes {
  public:
    NodeAxes(AxisBuilder& builder, const ir::Node& node) : builder_(builder), node_(node) {}

    const ir::Node& node() const { return node_; }
    std::int64_t opset() const;
    AxisStore& store();

    bool has(std::size_t input) const { return node_.input(input) != nullptr; }
    bool isConstant(std::size_t input) const;
    const Shape& shape(std::size_t input) const;
    const Shape& outputShape(std::size_t output) const;
    /// Shape of the first output, which has the rank of the first input: throws NotUnderstood when it does not.
    const Shape& outputOfSameRank() const;
    /// True when the output is there and its shape is known.
    bool hasOutput(std::size_t output) const;
    std::vector<std::int64_t> ints(std::size_t input) const;
    std::optional<std::vector<std::int64_t>> operand(std::size_t input, const char* attribute) const;
    /// A possibly negative axis brought into [0, rank).
    std::size_t position(std::int64_t axis, std::size_t rank) const;

    const std::vector<Axis>& axes(std::size_t input);
    /// Throws NotUnderstood for a scalar.
    Axis lastAxis(std::size_t input);
    void set(std::size_t output, std::vector<Axis> axes);
    /// Fresh axes; frozen when a reason is given.
    void setFresh(std::size_t output, const std::string& frozen = {});

    /// United, or both frozen with the reason noted.
    void unify(const Axis& a, const Axis& b);
    /// The axes of an input that is broadcast against the last axes of `target` (a bias, a scale), those of
    /// size 1 left out.
    void unifyTrailing(std::size_t input, const std::vector<Axis>& target);
    void freeze(const Axis& axis, const std::string& reason);
    void freezeInput(std::size_t input, const std::string& reason);
    void event(EventKind kind, const Axis& axis);

    /// A product of input `a` (free axis freeA, contracted) with input `b`: a linear layer when one of them
    /// is constant.
    struct Product {
        std::size_t a, b;
        Axis contracted, freeA, freeB;
        std::vector<Axis> batch;
    };
    void product(const Product& product);
    void fusedAttention(FusedAttention attention);

    /// Element-wise operators: axes of the chosen inputs united where they meet, except weak ties on the
    /// score path.
    void broadcast(const std::vector<std::size_t>& inputs);

  private:
    AxisBuilder& builder_;
    const ir::Node& node_;
};

using AxisRule = std::function<void(NodeAxes&)>;
/// By operator name; the domain in front for others than the standard one: "com.microsoft.Attention".
using AxisRules = std::unordered_map<std::string, AxisRule>;

void addElementwiseAxisRules(AxisRules& rules);
void addLayoutAxisRules(AxisRules& rules);
void addIndexingAxisRules(AxisRules& rules);
void addLinearAxisRules(AxisRules& rules);
void addNormAxisRules(AxisRules& rules);
void addQuantizationAxisRules(AxisRules& rules);
void addFusedAxisRules(AxisRules& rules);

/// Element-wise operators, by qualified name (bias and quantization forms included).
bool isElementwise(const ir::Node& node);
/// Operators that only move elements: Reshape, Transpose, Slice, Expand …
bool isLayout(const ir::Node& node);

class AxisBuilder {
  public:
    AxisBuilder(const ir::Model& model, const ProbeSizes& sizes);
    ModelAxes build();

  private:
    friend class NodeAxes;
    void findConstants();
    void findScorePaths();
    void visit(const ir::Node& node);
    void opaque(const ir::Node& node, const std::string& reason);
    void checkOutputs(const ir::Node& node);
    void freezeCaptured();
    const Shape* shape(const ir::Value* value) const;
    const std::vector<Axis>& axes(const ir::Value* value);
    const std::vector<Axis>& axes(const ir::Node& node, std::size_t input);
    std::vector<Axis> fresh(const Shape& shape, const std::string& frozen);
    bool isConstant(const ir::Value* value) const;

    const ir::Model& model_;
    ModelAxes out_;
    std::unordered_map<const ir::Value*, Shape> shapes_;
    /// Values from which element-wise and layout operators alone lead to a Softmax.
    std::unordered_set<const ir::Value*> beforeSoftmax_;
    /// Values between an activation matmul and its Softmax.
    std::unordered_set<const ir::Value*> scores_;
    std::map<std::string, int> unknown_;
};

}  // namespace tcompress::analysis
