#pragma once
// Which layers are to share their weights: those that do nearly the same. The distance of two layers is functional: how
// far the output of the one is when it gets the other's weights, on the inputs that it sees in the model.

#include <cstddef>
#include <vector>

#include "lib/data/dataset.h"
#include "passes/share/branch_weights.h"

namespace tcompress::passes {

/// Positions in a list of layers.
using LayerGroup = std::vector<std::size_t>;

/// d[a · n + b], symmetric: the mean of the relative squared errors of layer a's output with b's weights and of b's with
/// a's. Biases of the down projections stay each layer's own. Layers of different kinds are infinitely far.
std::vector<double> functionalDistances(const ir::Model& model, const std::vector<BranchWeights>& layers,
                                        const data::Dataset& samples, const calibration::Environment& environment);

/// Groups of `size` (the last may be smaller) with the least sum of distances within groups, as far as exchanging pairs
/// finds it, from neighbours; in order of their first layers.
std::vector<LayerGroup> nearestGroups(const std::vector<double>& distances, std::size_t layers, std::size_t size);

/// Neighbours of one kind, `size` at a time.
std::vector<LayerGroup> neighbours(const std::vector<BranchWeights>& layers, std::size_t size);

}  // namespace tcompress::passes
