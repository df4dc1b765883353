#pragma once
// Dense linear algebra for the passes: LAPACK behind it, run on one thread; products, Cholesky factors and triangular
// solutions in ranges of rows or columns of a fixed size on several, so results do not depend on the number of threads. Matrices are row-major and dense.
// What factorizes (singular values, eigenvalues, Cholesky factors and inverses, least squares) checks its input for NaN and
// infinity and throws KernelError with the position, and saying why when it fails. Products and triangular solutions do
// not look: what is not finite goes through them.

#include <cstdint>
#include <span>
#include <vector>

namespace tcompress::kernels {

/// A = U · diag(s) · V^T with U [m, r], V^T [r, n], r = min(m, n), s descending. The sign of each pair is
/// fixed by making the largest |element| of U's column positive.
struct Svd {
    std::int64_t m = 0, n = 0, r = 0;
    std::vector<float> u, s, vt;
};
/// Computed in float64 by divide and conquer (gesdd; gesvd when that does not converge).
Svd svd(std::span<const float> a, std::int64_t m, std::int64_t n);
/// Singular values only, descending.
std::vector<float> singularValues(std::span<const float> a, std::int64_t m, std::int64_t n);

/// Lower L with A = L·L^T, in place (the upper part is zeroed), for symmetric A. Where A is not positive definite because
/// it has a lower rank and was summed from float32 products, as little of the largest element of its diagonal as helps is
/// added to the diagonal: 1e-6, 1e-5 … 1e-2 of it. Throws KernelError naming the first pivot when none does.
void cholesky(std::span<double> a, std::int64_t n);
/// A^-1 of a symmetric positive definite A, in place, through its Cholesky factor.
void invertPositiveDefinite(std::span<double> a, std::int64_t n);

/// Lower L with A^-1 = L·L^T of a symmetric positive definite A, in place (the upper part is zeroed): without the inverse
/// itself, at half of what that and its factor take. Throws as cholesky(), with pivots counted from the end.
void choleskyOfInverse(std::span<double> a, std::int64_t n);

/// A = Q · diag(values) · Q^T of a symmetric A; values ascending, column j of Q (row-major [n, n]) belongs to
/// values[j].
struct SymmetricEigen {
    std::vector<double> values;
    std::vector<double> vectors;
};
SymmetricEigen symmetricEigen(std::vector<double> a, std::int64_t n);

enum class Triangle { lower, upper };
enum class Transposition { no, yes };
/// Solves op(T) · X = B in place for X, T [n, n] triangular, B [n, columns].
void solveTriangular(Triangle triangle, Transposition transposition, std::span<const double> t,
                     std::int64_t n, std::span<double> b, std::int64_t columns);
/// X minimising |A·X − B|₂, A [m, n] with m ≥ n, B [m, columns]; result [n, columns]. By SVD (gelsd): small
/// singular values below `relativeCutoff` · largest are taken as zero.
std::vector<double> leastSquares(std::span<const double> a, std::int64_t m, std::int64_t n,
                                 std::span<const double> b, std::int64_t columns, double relativeCutoff);

/// C[m, n] = op(A) · op(B) in float64 (row-major, dense); inner is the shared dimension.
void gemm(Transposition aTransposition, Transposition bTransposition, std::int64_t m, std::int64_t n,
          std::int64_t inner, std::span<const double> a, std::span<const double> b, std::span<double> c);
/// C[m, n] −= op(A) · op(B).
void subtractProduct(Transposition aTransposition, Transposition bTransposition, std::int64_t m, std::int64_t n,
                     std::int64_t inner, std::span<const double> a, std::span<const double> b, std::span<double> c);

}  // namespace tcompress::kernels
