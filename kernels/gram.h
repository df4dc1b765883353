#pragma once
// Second moments of data that stream by: XᵀX and XᵀY of matrices with few columns and many rows. Products of
// a chunk of rows are computed in float32 by the matrix kernels and summed in float64 over chunks. Chunks and
// tiles depend on the shapes alone, so the sums are the same bytes for any number of threads.

#include <cstdint>
#include <span>

namespace tcompress::kernels {

/// gram[n, n] += XᵀX of X[rows, n], both row-major and dense. A symmetric `gram` stays exactly symmetric.
void accumulateGram(std::span<const float> x, std::int64_t rows, std::int64_t n, std::span<double> gram);

/// cross[n, m] += XᵀY of X[rows, n] and Y[rows, m], all row-major and dense.
void accumulateCross(std::span<const float> x, std::span<const float> y, std::int64_t rows, std::int64_t n,
                     std::int64_t m, std::span<double> cross);

}  // namespace tcompress::kernels
