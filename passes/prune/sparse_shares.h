#pragma once
// How a sparsity is spread over the weights of a model (support/sparse_allocation.h), with what has to be measured for
// that measured once.
//
// What a weight's matrix is worth at the model's outputs comes from a trial of each matrix alone: it is made
// sparse as the pass will, or nearly so (by the sweep of support/sparse_obs.h; in the metric of the model's outputs by
// support/sparse_admm.h; where weights that stay keep their values those with the smallest saliencies become zero), and the
// outputs of the model on at most 64 samples say what that costs them. The weights that the trial takes are worth that
// much; how saliencies go on above and below them says what other shares would cost. The saliency is w² / [H⁻¹]ᵢᵢ, what
// the layer's output loses once the other weights make up for it (Hassibi and Stork 1992, "Optimal Brain Surgeon"); errors
// of matrices are taken to add up.

#include <vector>

#include "lib/analysis/transformer_view.h"
#include "lib/data/split.h"
#include "lib/pipeline/pass.h"
#include "passes/support/output_curvature.h"
#include "passes/support/sparse_allocation.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

/// What becomes of the weights that are not set to zero.
enum class OtherWeights { kept, fitted };

class SparseShares {
  public:
    /// `weights` (without a refitRefusal) are of the view, which is of the model. Trials are made at `sparsity`. With a
    /// `curvature` (may be null) weights go, and the others make up for them, in the metric of the model's outputs.
    SparseShares(const ir::Model& model, const analysis::TransformerView& view, const std::vector<const TargetWeight*>& weights,
                 SparseAllocation allocation, double sparsity, OtherWeights others, const OutputCurvature* curvature,
                 const data::Split& samples, const pipeline::PassContext& context);

    /// The share of zeros of each weight, in the order given.
    std::vector<double> at(double sparsity) const;

  private:
    SparseAllocation allocation_;
    std::size_t count_;
    std::vector<SparseLayer> layers_;  ///< none when shares are uniform
};

}  // namespace tcompress::passes
