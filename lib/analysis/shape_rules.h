#pragma once
// How an operator's output shapes, and the values of small tensors, follow from its inputs. One rule an
// operator, one file a family of operators; concretise.cpp applies them in topological order. Private to
// lib/analysis.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "lib/analysis/concretise.h"
#include "lib/ir/model.h"

namespace tcompress::analysis {

/// Thrown by a rule that cannot say what comes out; the text says why.
class UnknownShape {
  public:
    explicit UnknownShape(std::string reason) : reason_(std::move(reason)) {}
    const std::string& reason() const { return reason_; }

  private:
    std::string reason_;
};

/// What a rule sees of its node. Everything that is not known throws UnknownShape.
class NodeShapes {
  public:
    NodeShapes(const ir::Model& model, const ir::Node& node, ConcreteShapes& shapes,
               std::optional<Shape> imposed = {})
        : model_(model), node_(node), shapes_(shapes), imposed_(std::move(imposed)) {}

    const ir::Node& node() const { return node_; }
    /// Version of the operator set the node belongs to.
    std::int64_t opset() const { return model_.opset(node_.domain()); }
    bool has(std::size_t input) const { return node_.input(input) != nullptr; }
    Shape shape(std::size_t input) const;
    /// Value of an input; throws when it is not known.
    Tensor value(std::size_t input) const;
    bool hasValue(std::size_t input) const;
    std::vector<std::int64_t> ints(std::size_t input) const { return toInt64(value(input)); }
    /// An operand that became an input in a later opset: from the attribute when there is one, else from the
    /// input.
    std::optional<std::vector<std::int64_t>> operand(std::size_t input, const char* attribute) const;
    /// The shape that the first output must have whatever the operands say (evaluateValues).
    const std::optional<Shape>& imposedShape() const { return imposed_; }
    DType dtype(std::size_t input) const;
    /// A possibly negative axis brought into [0, rank).
    std::size_t axis(std::int64_t axis, std::size_t rank) const;

    /// Throws ModelError when a size is negative or there are more elements than an int64 counts.
    void set(std::size_t output, Shape shape);
    void set(std::size_t output, Tensor value);

  private:
    const ir::Model& model_;
    const ir::Node& node_;
    ConcreteShapes& shapes_;
    std::optional<Shape> imposed_;
};

using ShapeRule = std::function<void(NodeShapes&)>;
/// By operator name; the domain in front for others than the standard one: "com.microsoft.Attention".
using ShapeRules = std::unordered_map<std::string, ShapeRule>;

void addElementwiseShapeRules(ShapeRules& rules);
void addLayoutShapeRules(ShapeRules& rules);
void addIndexingShapeRules(ShapeRules& rules);
void addLinearShapeRules(ShapeRules& rules);
void addNormShapeRules(ShapeRules& rules);
void addReductionShapeRules(ShapeRules& rules);
void addFusedShapeRules(ShapeRules& rules);

/// Contracted, batch and free axes of a matrix product. Throws UnknownShape when they do not fit.
Shape matmulShape(Shape a, Shape b);
/// What Reshape makes of `input` for a requested shape with 0 (copy) and -1 (infer).
Shape reshaped(const Shape& input, std::vector<std::int64_t> wanted, bool allowZero);
/// "MatMul", "com.microsoft.Attention".
std::string qualifiedName(const ir::Node& node);

}  // namespace tcompress::analysis
