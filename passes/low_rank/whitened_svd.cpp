#include "passes/low_rank/whitened_svd.h"

#include <algorithm>
#include <cmath>

#include "kernels/linalg.h"

namespace tcompress::passes {

using kernels::Transposition;
using kernels::Triangle;

LowRankFactors whitenedSvd(std::vector<double> hessian, const std::vector<double>& weights, std::int64_t outputs,
                           std::int64_t rank) {
    LowRankFactors factors;
    factors.inputs = static_cast<std::int64_t>(weights.size()) / outputs;
    factors.outputs = outputs;
    factors.rank = std::min({rank, factors.inputs, outputs});
    kernels::cholesky(hessian, factors.inputs);
    std::vector<double> whitened(weights.size());
    kernels::gemm(Transposition::yes, Transposition::no, factors.inputs, outputs, factors.inputs, hessian, weights,
                  whitened);
    const std::vector<float> values(whitened.begin(), whitened.end());
    const kernels::Svd svd = kernels::svd(values, factors.inputs, outputs);
    factors.values.assign(svd.s.begin(), svd.s.end());
    for (std::size_t i = static_cast<std::size_t>(factors.rank); i < svd.s.size(); ++i)
        factors.lost += static_cast<double>(svd.s[i]) * static_cast<double>(svd.s[i]);
    // √s on either side, so that neither factor's values grow large.
    std::vector<double> roots;
    for (std::int64_t k = 0; k < factors.rank; ++k)
        roots.push_back(std::sqrt(static_cast<double>(svd.s[static_cast<std::size_t>(k)])));
    for (std::int64_t i = 0; i < factors.inputs; ++i)
        for (std::int64_t k = 0; k < factors.rank; ++k)
            factors.left.push_back(static_cast<double>(svd.u[static_cast<std::size_t>(i * svd.r + k)]) *
                                   roots[static_cast<std::size_t>(k)]);
    for (std::int64_t k = 0; k < factors.rank; ++k)
        for (std::int64_t o = 0; o < outputs; ++o)
            factors.right.push_back(static_cast<double>(svd.vt[static_cast<std::size_t>(k * outputs + o)]) *
                                    roots[static_cast<std::size_t>(k)]);
    kernels::solveTriangular(Triangle::lower, Transposition::yes, hessian, factors.inputs, factors.left, factors.rank);
    return factors;
}

std::vector<double> product(const LowRankFactors& factors) {
    std::vector<double> result(static_cast<std::size_t>(factors.inputs * factors.outputs));
    kernels::gemm(Transposition::no, Transposition::no, factors.inputs, factors.outputs, factors.rank, factors.left,
                  factors.right, result);
    return result;
}

}  // namespace tcompress::passes
