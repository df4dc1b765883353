#pragma once
// Which weights of a linear layer stay, decided for all of them together. The sweep of sparse_obs.h decides each once,
// in the order of the inputs, and takes the same share from every stretch of them; here masks move until the best
// weights and the nearest that the pattern allows agree:
//
//   X ← (A ⊗ H + ρI)⁻¹·(H·W*·A + ρ·(D − U)),   D ← X + U with zeros as the pattern asks,   U ← U + X − D
//
// the alternating direction method of multipliers on min tr((W − W*)ᵀ·H·(W − W*)·A), the metric of sparse_optimum.h.
// Inputs and outputs are scaled so that the diagonals of H and A are 1, and ρ grows until no mask can move. The first step
// is that of proximal_step.h. The zeros are no convex set, so nothing says that the result is the best; what it gains over
// the sweep on real models is measured in docs/compensation.md.
//
// Source: Meng, Behdin, Wang, Mazumder 2024, "ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for Large
// Language Models" (algorithm 1, there with A = I; the values of the weights that stay are then sparseOptimum()'s).

#include "passes/support/sparse_obs.h"

namespace tcompress::passes {

/// As sweep(), whose arguments it takes; `outputMetric` as in sparseOptimum().
SparseWeights alternatingDirections(std::vector<double> hessian, const std::vector<double>& optimum,
                                    std::int64_t outputs, const SparsePattern& pattern, double sparsity,
                                    const SparseMask& first = {}, const std::vector<double>& outputMetric = {});

}  // namespace tcompress::passes
