#pragma once
// The entries of a codebook matrix that suit the layer's output best while its numbers and scales stay.
//
// What the numbers stand for is linear in the entries, V = S·θ, so tr(EᵀHE) has its minimum where SᵀG = 0. It is
// neared by conjugate gradients on SᵀHS, preconditioned by its diagonal, of which each step is one product with H.
// Channels with codebooks of their own have nothing in common and get steps of their own.
//
// Sources: the codebook update of van Baalen et al. 2024, "GPTVQ"; Hestenes and Stiefel 1952, "Methods of Conjugate
// Gradients for Solving Linear Systems".

#include <vector>

#include "passes/quantize/codebook/codebook_matrix.h"
#include "passes/quantize/solver/output_gradient.h"

namespace tcompress::passes {

/// Entries of all stages one after another. `gradient` is that of the matrix, and moves along.
std::vector<double> fittedEntries(const CodebookMatrix& matrix, OutputGradient& gradient);

}  // namespace tcompress::passes
