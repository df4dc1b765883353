#pragma once
// The entries of codebooks that suit the outputs of the layers that read them best while numbers and scales stay.
//
// What a layer's numbers stand for is linear in the entries, V = S·θ, so tr(EᵀHE) has its minimum where SᵀHS·θ = SᵀHW.
// It is neared by conjugate gradients, preconditioned by the diagonal, of which each step is one product with H.
// Layers that read the same entries add up their equations; channels with codebooks of their own have nothing in common
// and get steps of their own.
//
// Sources: the codebook update of van Baalen et al. 2024, "GPTVQ"; Hestenes and Stiefel 1952, "Methods of Conjugate
// Gradients for Solving Linear Systems".

#include <functional>
#include <span>
#include <vector>

#include "passes/quantize/codebook/codebook_matrix.h"
#include "passes/quantize/solver/output_gradient.h"

namespace tcompress::passes {

/// The equations of some entries, those of all stages one after another, where the entries are now.
struct EntryEquations {
    std::vector<double> slopes;    ///< SᵀG = SᵀH·(W − Sθ)
    std::vector<double> diagonal;  ///< of SᵀHS

    EntryEquations() = default;
    /// Of one layer. `gradient` is that of the matrix.
    EntryEquations(const CodebookMatrix& matrix, const OutputGradient& gradient);
    /// Another layer's with the same entries, times `weight`.
    void add(const EntryEquations& other, double weight);
};

/// SᵀHS·direction of one layer.
std::vector<double> entryCurvature(const CodebookMatrix& matrix, const OutputGradient& gradient,
                                   std::span<const double> direction);

/// What the entries of layers that share them should be moved by. `curvature`: their SᵀHS times its argument.
std::vector<double> entryChange(const EntryEquations& equations,
                                const std::function<std::vector<double>(std::span<const double>)>& curvature);
/// The same for one layer.
std::vector<double> entryChange(const CodebookMatrix& matrix, const OutputGradient& gradient);

/// Moves the entries, to numbers of float16.
void changeEntries(CodebookMatrix& matrix, std::span<const double> change);

}  // namespace tcompress::passes
