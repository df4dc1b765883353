#pragma once
// One weight matrix for several layers, each with a scale of its own for every input:
//
//   minimise  Σ_l  importance_l · tr((D_l·W − W*_l)ᵀ·H_l·(D_l·W − W*_l)),   D_l = diag(scale_l)
//
// W*_l and H_l are the layer's own optimum and its quadratic form (support/refit.h). With the scales fixed W solves one
// linear system, with W fixed so does each layer's scale: in turns, each step exact, the loss never rises. It is the
// alternating least squares of a trilinear model (Harshman 1970, "Foundations of the PARAFAC procedure").

#include <cstdint>
#include <vector>

namespace tcompress::passes {

/// What a layer would have by itself, and what it loses by anything else.
struct LayerOptimum {
    std::vector<double> hessian;  ///< H [inputs, inputs], positive definite
    std::vector<double> optimum;  ///< W* [inputs, outputs]
    double importance = 1;
};

struct SharedWeights {
    std::vector<double> weight;               ///< W [inputs, outputs]
    std::vector<std::vector<double>> scales;  ///< one a layer, [inputs]
};

/// The weights of one layer: its scales times W.
std::vector<double> weightsOf(const SharedWeights& shared, std::size_t layer);

/// `rounds` turns from `start`.
SharedWeights fitShared(const std::vector<LayerOptimum>& layers, SharedWeights start, int rounds);

/// What is minimised.
double sharedLoss(const std::vector<LayerOptimum>& layers, const SharedWeights& shared);

}  // namespace tcompress::passes
