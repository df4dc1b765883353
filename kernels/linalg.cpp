#include "kernels/linalg.h"

#include <algorithm>
#include <utility>

#include "kernels/linalg_checks.h"
#include "kernels/linalg_lapack.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

void requireSize(std::span<const double> a, std::int64_t rows, std::int64_t columns, const char* what) {
    TCOMPRESS_CHECK(static_cast<std::int64_t>(a.size()) == rows * columns,
                    fmt::format("{}: {} values for a {} × {} matrix", what, a.size(), rows, columns));
}

/// A square on the diagonal and a range of rows that one task works on.
constexpr std::int64_t kSquare = 256, kRows = 128;

/// The lower triangle becomes L; what is above the squares on the diagonal stays. The first pivot that is not positive, or
/// n when there is none.
std::int64_t factor(std::span<double> a, std::int64_t n) {
    // A square on the diagonal, the rows below it, and what they take from all that follows, in ranges of rows.
    for (std::int64_t begin = 0; begin < n; begin += kSquare) {
        const std::int64_t width = std::min(kSquare, n - begin), end = begin + width;
        double* square = a.data() + begin * n + begin;
        // Row-major lower is column-major upper.
        const int info = lapack().dpotrf(LAPACK_COL_MAJOR, 'U', toInt(width), square, toInt(n));
        TCOMPRESS_CHECK(info >= 0, fmt::format("potrf refused argument {}", -info));
        if (info > 0) return begin + info - 1;
        parallelRanges(n - end, kRows, [&](std::int64_t first, std::int64_t last) {
            lapack().dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit,
                           toInt(last - first), toInt(width), 1.0, square, toInt(n),
                           a.data() + (end + first) * n + begin, toInt(n));
        });
        parallelRanges(n - end, kRows, [&](std::int64_t first, std::int64_t last) {
            lapack().dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, toInt(last - first), toInt(last),
                           toInt(width), -1.0, a.data() + (end + first) * n + begin, toInt(n),
                           a.data() + end * n + begin, toInt(n), 1.0, a.data() + (end + first) * n + end,
                           toInt(n));
        });
    }
    return n;
}

/// The squares on the diagonal of a symmetric matrix: all of it that factor() does not leave above them.
class DiagonalSquares {
  public:
    DiagonalSquares(std::span<const double> a, std::int64_t n) : n_(n) {
        for (std::int64_t row = 0; row < n; ++row)
            values_.insert(values_.end(), a.begin() + row * n + begin(row), a.begin() + row * n + end(row));
    }

    /// Undoes factor(), and adds to the diagonal.
    void restore(std::span<double> a, double added) const {
        auto next = values_.begin();
        for (std::int64_t row = 0; row < n_; ++row) {
            for (std::int64_t column = 0; column < begin(row); ++column)
                a[static_cast<std::size_t>(row * n_ + column)] = a[static_cast<std::size_t>(column * n_ + row)];
            for (std::int64_t column = begin(row); column < end(row); ++column)
                a[static_cast<std::size_t>(row * n_ + column)] = *next++;
            a[static_cast<std::size_t>(row * n_ + row)] += added;
        }
    }

  private:
    static std::int64_t begin(std::int64_t row) { return row / kSquare * kSquare; }
    std::int64_t end(std::int64_t row) const { return std::min(n_, begin(row) + kSquare); }

    std::int64_t n_;
    std::vector<double> values_;
};

}  // namespace

void cholesky(std::span<double> a, std::int64_t n) {
    requireSize(a, n, n, "cholesky");
    if (n == 0) return;
    requireFinite(std::span<const double>(a), n, "cholesky");
    double largest = 0;
    for (std::int64_t i = 0; i < n; ++i) largest = std::max(largest, a[static_cast<std::size_t>(i * n + i)]);
    const DiagonalSquares squares(a, n);
    constexpr double kLeastAdded = 1e-6, kMostAdded = 1e-2;
    double added = 0;
    for (std::int64_t pivot = factor(a, n); pivot < n; pivot = factor(a, n)) {
        added = added == 0 ? kLeastAdded : 10 * added;
        if (largest == 0 || added > kMostAdded)
            throw KernelError(
                fmt::format("cholesky: the {} × {} matrix is not positive definite (pivot {}): the samples that it was "
                            "summed over are too few or all alike; give more, or others",
                            n, n, pivot));
        squares.restore(a, added * largest);
    }
    for (std::int64_t i = 0; i < n; ++i) std::fill_n(a.data() + i * n + i + 1, n - i - 1, 0.0);
}

void invertPositiveDefinite(std::span<double> a, std::int64_t n) {
    cholesky(a, n);
    if (n == 0) return;
    const int info = lapack().dpotri(LAPACK_COL_MAJOR, 'U', toInt(n), a.data(), toInt(n));
    if (info > 0) throw KernelError(fmt::format("the {} × {} matrix is singular (pivot {})", n, n, info - 1));
    TCOMPRESS_CHECK(info == 0, fmt::format("potri refused argument {}", -info));
    for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < i; ++j)
            a[static_cast<std::size_t>(j * n + i)] = a[static_cast<std::size_t>(i * n + j)];
}

void choleskyOfInverse(std::span<double> a, std::int64_t n) {
    requireSize(a, n, n, "choleskyOfInverse");
    // With rows and columns in the opposite order A = R·R^T; the inverse of R, turned back and transposed, is L.
    std::reverse(a.begin(), a.end());
    cholesky(a, n);
    std::vector<double> inverse(a.size());
    constexpr std::int64_t kColumns = 128;
    parallelRanges(n, kColumns, [&](std::int64_t begin, std::int64_t end) {
        const auto diagonal = static_cast<std::size_t>(begin * n + begin);
        for (std::int64_t i = begin; i < end; ++i) inverse[static_cast<std::size_t>(i * n + i)] = 1;
        lapack().dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, toInt(n - begin), toInt(end - begin),
                       1.0, a.data() + diagonal, toInt(n), inverse.data() + diagonal, toInt(n));
    });
    parallelRanges(n, kColumns, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t j = 0; j < n; ++j)
            for (std::int64_t i = begin; i < end; ++i)
                a[static_cast<std::size_t>(i * n + j)] = inverse[static_cast<std::size_t>((n - 1 - j) * n + n - 1 - i)];
    });
}

SymmetricEigen symmetricEigen(std::vector<double> a, std::int64_t n) {
    requireSize(a, n, n, "symmetricEigen");
    SymmetricEigen result;
    if (n == 0) return result;
    requireFinite(std::span<const double>(a), n, "symmetricEigen");
    result.values.resize(static_cast<std::size_t>(n));
    const int info = lapack().dsyevd(LAPACK_COL_MAJOR, 'V', 'L', toInt(n), a.data(), toInt(n),
                                     result.values.data());
    if (info > 0) throw KernelError(fmt::format("eigenvalues of a {} × {} matrix did not converge", n, n));
    TCOMPRESS_CHECK(info == 0, fmt::format("syevd refused argument {}", -info));
    for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < i; ++j) std::swap(a[static_cast<std::size_t>(i * n + j)], a[static_cast<std::size_t>(j * n + i)]);
    result.vectors = std::move(a);
    return result;
}

void solveTriangular(Triangle triangle, Transposition transposition, std::span<const double> t,
                     std::int64_t n, std::span<double> b, std::int64_t columns) {
    requireSize(t, n, n, "solveTriangular");
    requireSize(b, n, columns, "solveTriangular");
    for (std::int64_t i = 0; i < n; ++i)
        if (t[static_cast<std::size_t>(i * n + i)] == 0)
            throw KernelError(fmt::format("solveTriangular: element [{}, {}] of the diagonal is zero", i, i));
    if (b.empty()) return;
    constexpr std::int64_t kColumns = 128;
    parallelRanges(columns, kColumns, [&](std::int64_t begin, std::int64_t end) {
        lapack().dtrsm(CblasRowMajor, CblasLeft, triangle == Triangle::lower ? CblasLower : CblasUpper,
                       transposition == Transposition::yes ? CblasTrans : CblasNoTrans, CblasNonUnit,
                       toInt(n), toInt(end - begin), 1.0, t.data(), toInt(n), b.data() + begin,
                       toInt(columns));
    });
}

std::vector<double> leastSquares(std::span<const double> a, std::int64_t m, std::int64_t n,
                                 std::span<const double> b, std::int64_t columns, double relativeCutoff) {
    requireSize(a, m, n, "leastSquares");
    requireSize(b, m, columns, "leastSquares");
    TCOMPRESS_CHECK(m >= n, "leastSquares: fewer equations than unknowns");
    if (n * columns == 0) return {};
    requireFinite(a, n, "leastSquares");
    requireFinite(b, columns, "leastSquares");
    std::vector<double> matrix(a.begin(), a.end());
    std::vector<double> solution(b.begin(), b.end());
    std::vector<double> s(static_cast<std::size_t>(n));
    int rank = 0;
    const int info =
        lapack().dgelsd(LAPACK_ROW_MAJOR, toInt(m), toInt(n), toInt(columns), matrix.data(), toInt(n),
                        solution.data(), toInt(columns), s.data(), relativeCutoff, &rank);
    if (info > 0) throw KernelError(fmt::format("least squares of a {} × {} matrix did not converge", m, n));
    TCOMPRESS_CHECK(info == 0, fmt::format("gelsd refused argument {}", -info));
    solution.resize(static_cast<std::size_t>(n * columns));
    return solution;
}

namespace {

/// C = scale · op(A) · op(B) + keep · C. A's rows in ranges of a fixed size, an independent product each.
void addProduct(double scale, double keep, Transposition aTransposition, Transposition bTransposition, std::int64_t m,
                std::int64_t n, std::int64_t inner, std::span<const double> a, std::span<const double> b,
                std::span<double> c) {
    requireSize(a, m, inner, "gemm");
    requireSize(b, inner, n, "gemm");
    requireSize(c, m, n, "gemm");
    if (c.empty()) return;
    if (inner == 0) {  // gemv would leave C as it is
        if (keep == 0) std::fill(c.begin(), c.end(), 0.0);
        return;
    }
    const bool aTransposed = aTransposition == Transposition::yes;
    const bool bTransposed = bTransposition == Transposition::yes;
    const int aStride = toInt(std::max<std::int64_t>(1, aTransposed ? m : inner));
    const int bStride = toInt(std::max<std::int64_t>(1, bTransposed ? inner : n));
    // A product with one vector reads its matrix once; gemm would pack it first.
    if (m == 1) {
        lapack().dgemv(CblasRowMajor, bTransposed ? CblasNoTrans : CblasTrans, toInt(bTransposed ? n : inner),
                       toInt(bTransposed ? inner : n), scale, b.data(), bStride, a.data(), 1, keep, c.data(), 1);
        return;
    }
    constexpr std::int64_t kRows = 256;
    parallelRanges(m, kRows, [&](std::int64_t begin, std::int64_t end) {
        const double* const rows = a.data() + (aTransposed ? begin : begin * inner);
        const int count = toInt(end - begin);
        if (n == 1)
            lapack().dgemv(CblasRowMajor, aTransposed ? CblasTrans : CblasNoTrans,
                           aTransposed ? toInt(inner) : count, aTransposed ? count : toInt(inner), scale, rows, aStride,
                           b.data(), 1, keep, c.data() + begin, 1);
        else
            lapack().dgemm(CblasRowMajor, aTransposed ? CblasTrans : CblasNoTrans,
                           bTransposed ? CblasTrans : CblasNoTrans, count, toInt(n), toInt(inner), scale, rows, aStride,
                           b.data(), bStride, keep, c.data() + begin * n, toInt(n));
    });
}

}  // namespace

void gemm(Transposition aTransposition, Transposition bTransposition, std::int64_t m, std::int64_t n,
          std::int64_t inner, std::span<const double> a, std::span<const double> b, std::span<double> c) {
    addProduct(1, 0, aTransposition, bTransposition, m, n, inner, a, b, c);
}

void subtractProduct(Transposition aTransposition, Transposition bTransposition, std::int64_t m, std::int64_t n,
                     std::int64_t inner, std::span<const double> a, std::span<const double> b, std::span<double> c) {
    addProduct(-1, 1, aTransposition, bTransposition, m, n, inner, a, b, c);
}

}  // namespace tcompress::kernels
