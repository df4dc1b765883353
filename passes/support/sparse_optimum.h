#pragma once
// The values of the weights that a pattern of zeros lets stay: those nearest to a linear layer's optimum,
//
//   minimise  tr((W − W*)ᵀ·H·(W − W*)·A)   over the W that are zero where the mask says so
//
// with H [inputs, inputs] the second moment of the layer's inputs and A [outputs, outputs] that of the gradients at its
// outputs, or without A the identity. H ⊗ A is the Kronecker factorization of the Gauss-Newton matrix: in it an error of the
// layer counts by what it does to the outputs of the model, where H alone counts it at the outputs of the layer.
//
// It is a linear system over the weights that stay, mask ∘ (H·W·A) = mask ∘ (H·W*·A), solved by conjugate gradients with the
// diagonal Hᵢᵢ·Aₒₒ as preconditioner. Without A each output is a system of its own, with A all weights are one.
//
// Sources: Martens and Grosse 2015, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature" (A and H);
// van der Ouderaa, Nagel, van Baalen, Asano and Blankevoort 2024, "The LLM Surgeon" (pruning in that metric).

#include <cstdint>
#include <vector>

#include "passes/support/sparse_obs.h"

namespace tcompress::passes {

/// The minimum over the weights that `mask` lets stay, sought from `start` (empty: W*). `hessian` is positive definite,
/// `outputMetric` A positive semidefinite (of any scale, conditioned() is made of it) or empty. Weights are
/// [inputs, outputs]. With a metric of outputs a start near the minimum is worth having: it saves hundreds of iterations.
std::vector<double> sparseOptimum(const std::vector<double>& hessian, const std::vector<double>& optimum,
                                  std::int64_t outputs, const SparseMask& mask, const std::vector<double>& start = {},
                                  const std::vector<double>& outputMetric = {});

/// A metric over outputs as the solvers take it: scaled so that its diagonal's mean is 1, and no element of the diagonal
/// below a millionth, so that outputs of which the model uses nothing count for next to nothing and divide nothing by zero.
/// Of a metric that is zero altogether it is the identity; empty stays empty.
std::vector<double> conditioned(std::vector<double> outputMetric, std::int64_t outputs);

}  // namespace tcompress::passes
