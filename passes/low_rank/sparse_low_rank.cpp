#include "passes/low_rank/sparse_low_rank.h"

#include <algorithm>
#include <cmath>

#include "passes/support/sparse_obs.h"
#include "passes/support/sparse_optimum.h"

namespace tcompress::passes {
namespace {

std::vector<double> difference(const std::vector<double>& a, const std::vector<double>& b) {
    std::vector<double> result(a.size());
    for (std::size_t i = 0; i < a.size(); ++i) result[i] = a[i] - b[i];
    return result;
}

/// The values whose |w|·√Hᵢᵢ is largest.
std::vector<double> largest(const std::vector<double>& hessian, const std::vector<double>& weights, std::int64_t outputs,
                            double sparsity) {
    const std::int64_t inputs = static_cast<std::int64_t>(weights.size()) / outputs;
    std::vector<double> scores(weights.size()), kept = weights;
    for (std::size_t i = 0; i < scores.size(); ++i) {
        const auto input = static_cast<std::int64_t>(i) / outputs;
        scores[i] = std::fabs(weights[i]) * std::sqrt(hessian[static_cast<std::size_t>(input * inputs + input)]);
    }
    const SparseMask mask = maskByScore(scores, outputs, SparsePattern{}, sparsity, 1);
    for (std::size_t i = 0; i < kept.size(); ++i)
        if (!mask[i]) kept[i] = 0;
    return kept;
}

}  // namespace

std::vector<double> SparseLowRank::sum() const {
    std::vector<double> result = product(factors);
    for (std::size_t i = 0; i < result.size(); ++i) result[i] += sparse[i];
    return result;
}

SparseLowRank sparseLowRank(const std::vector<double>& hessian, const std::vector<double>& weights, std::int64_t outputs,
                            std::int64_t kept, std::int64_t rank, int rounds) {
    const double sparsity = 1 - static_cast<double>(kept) / static_cast<double>(weights.size());
    SparseLowRank result{std::vector<double>(weights.size()), {}};
    for (int round = 0; round < rounds; ++round) {
        result.factors = whitenedSvd(hessian, difference(weights, result.sparse), outputs, rank);
        result.sparse = largest(hessian, difference(weights, product(result.factors)), outputs, sparsity);
    }
    const std::vector<double> left = difference(weights, product(result.factors));
    const SparseWeights swept = sweep(hessian, left, outputs, SparsePattern{}, sparsity);
    result.sparse = sparseOptimum(hessian, left, outputs, swept.mask, swept.weights);
    // The thin part last: it is the exact best for the sparse one.
    result.factors = whitenedSvd(hessian, difference(weights, result.sparse), outputs, rank);
    return result;
}

SparseLowRankSize sparseLowRankSize(std::int64_t m, std::int64_t n, double keep, double lowRankShare) {
    constexpr double kBits = 32, kPlaceBits = 1;
    const auto entries = static_cast<double>(m * n);
    SparseLowRankSize size;
    size.rank = std::max<std::int64_t>(1, static_cast<std::int64_t>(keep * lowRankShare * entries / static_cast<double>(m + n)));
    const double bits = keep * kBits * entries - kPlaceBits * entries - kBits * static_cast<double>(size.rank * (m + n));
    size.kept = std::max<std::int64_t>(0, static_cast<std::int64_t>(bits / kBits));
    return size;
}

}  // namespace tcompress::passes
