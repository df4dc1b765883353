#pragma once
// An embedding table as the product of two thin ones, nearest where rows are looked up:
//
//   minimise  Σ_i  usage_i · ‖T_i − L_i·R‖²,   L [rows, rank], R [rank, columns]
//
// R's rows are the leading eigenvectors of Tᵀ·diag(usage)·T, L = T·Rᵀ, and what is lost is the sum of the other eigenvalues
// (Eckart and Young 1936 for the weighted table; the shape is that of Lan et al. 2020, "ALBERT").

#include <vector>

#include "lib/tensor/tensor.h"

namespace tcompress::passes {

struct TableFactors {
    Tensor rows;       ///< L
    Tensor basis;      ///< R, orthonormal rows
    double error = 0;  ///< root of what is lost, relative to the weighted table
};

/// `table` is a float32 matrix, `usage` has a weight for each row.
TableFactors usageWeightedFactors(const Tensor& table, const std::vector<double>& usage, std::int64_t rank);

}  // namespace tcompress::passes
