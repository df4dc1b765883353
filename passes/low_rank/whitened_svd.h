#pragma once
// The product of two thin matrices that is nearest to a layer's optimum in the metric of its data:
//
//   minimise  tr((A·B − W*)ᵀ·H·(A·B − W*))  =  ‖Lᵀ·A·B − Lᵀ·W*‖²,   H = L·Lᵀ
//
// The truncated singular value decomposition of Lᵀ·W* solves it, and what is lost is the sum of the squares of the
// singular values left out (Wang et al. 2024, "SVD-LLM").

#include <cstdint>
#include <vector>

namespace tcompress::passes {

struct LowRankFactors {
    std::int64_t inputs = 0, rank = 0, outputs = 0;
    std::vector<double> left;   ///< A [inputs, rank]
    std::vector<double> right;  ///< B [rank, outputs]
    double lost = 0;            ///< the minimum
    std::vector<double> values;  ///< all singular values of Lᵀ·W*, descending
};

/// `hessian` H [inputs, inputs] is positive definite, `weights` W* [inputs, outputs].
LowRankFactors whitenedSvd(std::vector<double> hessian, const std::vector<double>& weights, std::int64_t outputs,
                           std::int64_t rank);

/// A·B.
std::vector<double> product(const LowRankFactors& factors);

}  // namespace tcompress::passes
