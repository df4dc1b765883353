#pragma once
// What an error at a layer's output is worth at the model's: the second moments of gradients there. To second order the
// squared error of the model's outputs, each relative to its size, that weights W instead of W* make is
//
//   tr((W − W*)ᵀ · E[x·xᵀ] · (W − W*) · E[g·gᵀ])
//
// with x the layer's input and g the gradient by its output, taken as independent of each other (K-FAC). g is that of
// Σ r·y/‖y‖ for random signs r: over r, E[g·gᵀ] = E[Jᵀ·J] of the outputs' Jacobian J (Hutchinson 1990).
//
// Sources: Martens and Grosse 2015, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature"; Wang et
// al. 2019, "EigenDamage"; van der Ouderaa et al. 2024, "The LLM Surgeon".

#include <map>
#include <string>
#include <vector>

#include "lib/calibration/tensor_store.h"
#include "lib/data/dataset.h"
#include "lib/pipeline/pass.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

/// What an error counts by: the layer's own output, or what that does to the model's outputs.
enum class Loss { layer, model };

class OutputCurvature {
  public:
    /// Runs the model and its gradients on the first few hundred samples, several times where the sums of all weights take more
    /// than the context's limit of memory. Throws DataError when the data do not fit the model.
    OutputCurvature(const ir::Model& model, const analysis::TransformerView& view, const std::vector<const TargetWeight*>& weights,
                    const data::Dataset& samples, const pipeline::PassContext& context);

    /// Why there is none, a main clause: an operator without a gradient on the way to the outputs, or a single sample. Empty
    /// when there is.
    const std::string& refusal() const { return refusal_; }
    /// Says so in a report.
    void noteRefusal(pipeline::PassReport& report) const;
    /// [outputs, outputs] of a weight, with mean 1 on its diagonal and damped: `kDamping` more there. Empty where no
    /// output of the model depends on it.
    std::vector<double> of(const TargetWeight& weight) const;

  private:
    std::string refusal_;
    calibration::TensorStore sums_;                               ///< float32 [outputs, outputs]
    std::map<std::string, calibration::TensorStore::Slot> slots_;  ///< by the weight's name
};

}  // namespace tcompress::passes
