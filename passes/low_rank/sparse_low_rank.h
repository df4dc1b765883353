#pragma once
// A matrix as a sparse one and a thin product that together are nearest to a layer's optimum in the metric of its data:
//
//   minimise  tr((S + A·B − W*)ᵀ·H·(S + A·B − W*))   with `kept` values in S and `rank` columns in A
//
// by turns, each the best for the other as it is: A·B the truncated singular values of Lᵀ·(W* − S) (whitened_svd.h), S from
// what they leave over, W* − A·B: where |w|·√Hᵢᵢ is largest on the way, by SparseGPT's sweep at the end, with the exact values
// for that pattern (support/sparse_obs.h).
//
// Sources: Zhang and Papyan 2024, "OATS: Outlier-Aware Pruning Through Sparse and Low Rank Decomposition"; Makni et al. 2025,
// "A Unified Framework for Sparse Plus Low-Rank Matrix Decomposition for LLMs" (HASSLE-free).

#include <cstdint>
#include <vector>

#include "passes/low_rank/whitened_svd.h"

namespace tcompress::passes {

struct SparseLowRank {
    std::vector<double> sparse;  ///< S [inputs, outputs]
    LowRankFactors factors;

    /// S + A·B.
    std::vector<double> sum() const;
};

/// `hessian` H [inputs, inputs] is positive definite, `weights` W* [inputs, outputs].
SparseLowRank sparseLowRank(const std::vector<double>& hessian, const std::vector<double>& weights, std::int64_t outputs,
                            std::int64_t kept, std::int64_t rank, int rounds);

/// How many bits of a float32 matrix [m, n] the two parts may take, and how they share them: values of the sparse part with
/// a bit an entry for their places, and factors.
struct SparseLowRankSize {
    std::int64_t kept = 0, rank = 0;
};
SparseLowRankSize sparseLowRankSize(std::int64_t m, std::int64_t n, double keep, double lowRankShare);

}  // namespace tcompress::passes
