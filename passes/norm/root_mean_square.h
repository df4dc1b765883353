#pragma once
// LayerNorms without their mean: what is left divides by the root mean square (Zhang and Sennrich 2019, "Root Mean Square Layer
// Normalization").
//
//   γ ∘ (x − mean x) / √(var x + ε) + β   →   γ ∘ x / √(mean x² + ε) + β
//
// The same when the mean of x is zero. From opset 23 on it is an RMSNormalization and an Add; below it is spelled out as Pow,
// ReduceMean, Add, Sqrt, Div, Mul, Add, which ONNX Runtime fuses into its own root mean square normalization. A LayerNorm that is
// spelled out loses its ReduceMean and its Sub.

#include <cstdint>
#include <map>

#include "lib/ir/edit.h"

namespace tcompress::passes {

/// Rewrites norms within one edit, which share what constants they need.
class RootMeanSquare {
  public:
    RootMeanSquare(ir::Edit& edit, std::int64_t opset) : edit_(edit), opset_(opset) {}

    /// `norm` is a LayerNormalization over the last axis whose second and third results are not used, or the Sub of
    /// one that is spelled out (takesMeanAway()), which keeps its own bias. `bias` is that of a LayerNormalization,
    /// or null.
    void replace(ir::Node& norm, ir::Value* bias);

  private:
    ir::Value* spelledOut(ir::Value* input, ir::Value* gain, float epsilon);
    ir::Value* scalar(const char* name, float value);

    ir::Edit& edit_;
    std::int64_t opset_;
    std::map<float, ir::Value*> scalars_;
};

/// A LayerNormalization's bias; null when it has none.
ir::Value* biasOf(const ir::Node& norm);

/// The mean over the last axis, kept as an axis of one.
ir::Value* emitMeanOverLast(ir::Edit& edit, ir::Value* value, std::int64_t opset);

}  // namespace tcompress::passes
