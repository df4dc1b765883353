#pragma once
// Two matrices that only meet in a product along the size of a head can change their common basis without a trace:
//
//   q·kᵀ = (q·T)·(k·T⁻ᵀ)ᵀ         c·W = (c·T)·(T⁻¹·W)
//
// The bases here put first what the product needs most on the data, so that the last positions of a head can go at the least
// cost: with E[qᵀq] = R_q·R_qᵀ and the singular value decomposition R_qᵀ·R_k = U·Σ·Vᵀ the first r positions of q·R_q⁻ᵀ·U·Σ^½
// and k·R_k⁻ᵀ·V·Σ^½ give the best approximation of rank r of all scores (the truncation of SVD-LLM for both sides at once:
// Wang et al. 2024; the joint factorisation of queries and keys: Chen et al. 2024, "LoRAP").

#include <cstdint>
#include <vector>

namespace tcompress::passes {

/// Row-major [size, size]: rows times `left` are the first factor's values in the new basis, rows times `right` the second's.
struct HeadBasis {
    std::vector<double> left, right;
    std::vector<double> values;  ///< singular values, descending: what a position carries
};

/// For scores q·kᵀ; the moments Σ qᵀq and Σ kᵀk are [size, size] and positive semi-definite. left·rightᵀ = 1.
HeadBasis scoreBasis(const std::vector<double>& queryMoment, const std::vector<double>& keyMoment, std::int64_t size);

/// For c·W, W [size, outputs]: c turns by `left`, W becomes right·W, right = left⁻¹.
HeadBasis contextBasis(const std::vector<double>& contextMoment, const std::vector<double>& weight, std::int64_t size);

}  // namespace tcompress::passes
