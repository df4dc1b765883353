#pragma once
// Sparse weights of a linear layer that stay nearest to its optimum in the metric of its data:
//
//   minimise  tr((W − W*)ᵀ·H·(W − W*))   with zeros as the pattern asks
//
// Which weights go: SparseGPT's sweep over the inputs (Frantar and Alistarh 2023), an approximation of the Optimal
// Brain Surgeon in which weights before the current input stay as they are, so that one inverse serves all
// outputs. The values of those that stay are then sparseOptimum()'s (sparse_optimum.h).

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tcompress::passes {

/// What a report says of zeros that were made: their bytes are a surprise.
inline constexpr const char* kZerosTakeBytes = "zeros take their bytes until store-sparse, behind this pass, takes them out of the file";

/// Which weights must be zero. Blocks are 1 × 1 for single weights; N:M is the only pattern with keep > 0.
struct SparsePattern {
    std::int64_t keep = 0, group = 0;        ///< N:M: of every `group` inputs `keep` stay, for each output
    std::int64_t inputs = 1, outputs = 1;    ///< of a block
    bool isGrouped() const { return group > 0; }
    /// Inputs that are decided together.
    std::int64_t inputStep() const { return isGrouped() ? group : inputs; }
};

/// "unstructured", "2:4", "block4x1"; nothing when the text is none of them.
std::optional<SparsePattern> parseSparsePattern(const std::string& text);
/// Why a matrix of this shape cannot have the pattern; empty when it can.
std::string patternRefusal(const SparsePattern& pattern, std::int64_t inputs, std::int64_t outputs);

/// One flag a weight, row-major inputs × outputs: true stays.
using SparseMask = std::vector<bool>;

/// Of all weights the share with the smallest scores goes (blocks: with the smallest sums; N:M says its own
/// share), in blocks of `outputsAtOnce` outputs each by themselves (0 = all outputs compete).
SparseMask maskByScore(const std::vector<double>& scores, std::int64_t outputs, const SparsePattern& pattern,
                       double sparsity, std::int64_t outputsAtOnce);

/// What is zero already: of an earlier round, or of the model.
SparseMask zerosOf(const std::vector<double>& weights);

struct SparseWeights {
    SparseMask mask;
    std::vector<double> weights;  ///< [inputs, outputs], zeros included; not yet the best for the mask
};
/// SparseGPT's sweep: which weights stay, and what those became that made up for the ones before them.
/// `hessian` [inputs, inputs] is positive definite, `weights` W* [inputs, outputs]. Of single weights those that `first`
/// names go before all others (empty: none).
SparseWeights sweep(std::vector<double> hessian, std::vector<double> weights, std::int64_t outputs,
                   const SparsePattern& pattern, double sparsity, const SparseMask& first = {});

}  // namespace tcompress::passes
