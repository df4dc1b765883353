#pragma once
// Concrete shapes and small integer values of every tensor for chosen sizes of the dynamic dimensions: what shape
// arithmetic (Shape, Gather, Concat …) computes when the model runs, without running it. onnx::shape_inference leaves
// many shapes open (dynamic Reshapes, opset 11, contrib operators); this evaluator closes them.

#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "lib/ir/model.h"

namespace tcompress::analysis {

/// Sizes for the dynamic dimensions of graph inputs: by dim_param name. Names that are not listed get distinctive
/// defaults: batch 2, sequence 11, past 3, encoder 13, total = past + sequence.
using ProbeSizes = std::map<std::string, std::int64_t>;

class ConcreteShapes {
  public:
    /// nullopt when an operator's output shape cannot be known (unknown operator, or it depends on input data).
    std::optional<Shape> shape(const ir::Value& value) const;
    /// Integer or bool tensors of up to 1024 elements whose value depends on shapes and constants only.
    std::optional<Tensor> value(const ir::Value& value) const;
    /// The shape used for each graph input.
    const std::map<std::string, Shape>& inputShapes() const { return inputShapes_; }

  private:
    friend ConcreteShapes concretise(const ir::Model& model, const ProbeSizes& sizes);
    std::unordered_map<const ir::Value*, Shape> shapes_;
    std::unordered_map<const ir::Value*, Tensor> values_;
    std::map<std::string, Shape> inputShapes_;
};

ConcreteShapes concretise(const ir::Model& model, const ProbeSizes& sizes = {});

}  // namespace tcompress::analysis
