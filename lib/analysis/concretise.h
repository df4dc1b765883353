#pragma once
// Concrete shapes and small integer values of every tensor for chosen sizes of the dynamic dimensions: what
// shape arithmetic (Shape, Gather, Concat …) computes when the model runs, without running it.
// onnx::shape_inference leaves many shapes open (dynamic Reshapes, opset 11, contrib operators); this
// evaluator closes them.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "lib/ir/model.h"

namespace tcompress::analysis {

/// Sizes for the dynamic dimensions of graph inputs: by dim_param name, or by "input:axis" for a dimension
/// without a name (that also wins over the name). Dimensions that are not listed get distinctive defaults
/// from their name and place: batch 2, sequence 11, past 3, encoder 13, image sides 64 and 320; "total" and
/// sums are past + sequence.
using ProbeSizes = std::map<std::string, std::int64_t>;

class ConcreteShapes {
  public:
    /// nullopt when an operator's output shape cannot be known (unknown operator, or it depends on input
    /// data).
    std::optional<Shape> shape(const ir::Value& value) const;
    /// Tensors of up to 1024 elements whose value depends on shapes and constants only: dimensions, indices,
    /// bools, and floats computed from them (an attention scale that is Shape(x)[-1] ^ 0.5).
    std::optional<Tensor> value(const ir::Value& value) const;
    /// The shape used for each graph input.
    const std::map<std::string, Shape>& inputShapes() const { return inputShapes_; }

  private:
    friend class NodeShapes;
    friend class Concretiser;
    std::unordered_map<const ir::Value*, Shape> shapes_;
    std::unordered_map<const ir::Value*, Tensor> values_;
    std::map<std::string, Shape> inputShapes_;
};

ConcreteShapes concretise(const ir::Model& model, const ProbeSizes& sizes = {});

/// What a model would compute if its tensors had other shapes: `shapeOf` says the shape of every value and
/// only the small values are evaluated. Shows which shape operands follow a change of shapes by themselves.
ConcreteShapes evaluateValues(const ir::Model& model,
                              const std::function<std::optional<Shape>(const ir::Value&)>& shapeOf);

/// Probe sizes for a reference input: every batch dimension 1, every sequence-like dimension
/// `sequenceLength`, nothing cached (past 0).
ProbeSizes referenceSizes(const ir::Model& model, std::int64_t sequenceLength);

/// Other distinctive sizes than the default ones: what has the same value under both does not depend on the
/// input.
ProbeSizes alternativeSizes(const ir::Model& model);

struct ReferenceShapes {
    ConcreteShapes shapes;
    std::int64_t sequenceLength = 0;  ///< 0: nothing but the batch and the size of pictures is dynamic
};

/// Shapes at the reference input with the longest length that the model takes: `sequenceLength` halved until
/// as many shapes are known as with the default probe sizes (a position table ends somewhere).
ReferenceShapes referenceShapes(const ir::Model& model, std::int64_t sequenceLength);

}  // namespace tcompress::analysis
