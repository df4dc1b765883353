#pragma once
// Which neuron of one layer goes with which of another.

#include <cstddef>
#include <span>
#include <vector>

namespace tcompress::passes {

/// The permutation p that maximises Σ gain[i, p(i)] of a square matrix: the assignment problem, by shortest augmenting
/// paths with potentials (Kuhn 1955, "The Hungarian method for the assignment problem"; Jonker and Volgenant 1987).
/// Cubic in `size`.
std::vector<std::size_t> bestAssignment(std::span<const double> gain, std::size_t size);

}  // namespace tcompress::passes
