// Singular values. A row-major A is LAPACK's column-major A^T = V·S·U^T, so its left vectors come out as our
// V^T and its right ones as our U, both row-major, without any transposition.

#include <algorithm>
#include <cmath>

#include "kernels/linalg.h"
#include "kernels/linalg_checks.h"
#include "kernels/linalg_lapack.h"

namespace tcompress::kernels {

namespace {

/// gesdd, and gesvd when divide and conquer does not converge. job is LAPACK's 'S' (thin vectors) or 'N'
/// (none).
void factorize(char job, std::span<const float> a, std::int64_t m, std::int64_t n, std::vector<double>& s,
               std::vector<double>& u, std::vector<double>& vt) {
    TCOMPRESS_CHECK(static_cast<std::int64_t>(a.size()) == m * n, "svd: the values do not fill the matrix");
    requireFinite(a, n, "svd");
    const int rows = toInt(n);
    const int columns = toInt(m);
    const int rank = std::min(rows, columns);
    s.resize(static_cast<std::size_t>(rank));
    std::vector<double> copy(a.begin(), a.end());
    int info = lapack().dgesdd(LAPACK_COL_MAJOR, job, rows, columns, copy.data(), std::max(1, rows),
                               s.data(), vt.data(), std::max(1, rows), u.data(), std::max(1, rank));
    if (info > 0) {
        copy.assign(a.begin(), a.end());
        std::vector<double> superdiagonal(static_cast<std::size_t>(std::max(1, rank)));
        info = lapack().dgesvd(LAPACK_COL_MAJOR, job, job, rows, columns, copy.data(), std::max(1, rows),
                               s.data(), vt.data(), std::max(1, rows), u.data(), std::max(1, rank),
                               superdiagonal.data());
    }
    if (info > 0)
        throw KernelError(
            fmt::format("svd of a {} × {} matrix did not converge ({} superdiagonals left)", m, n, info));
    TCOMPRESS_CHECK(info == 0, fmt::format("gesdd refused argument {}", -info));
}

}  // namespace

Svd svd(std::span<const float> a, std::int64_t m, std::int64_t n) {
    Svd result;
    result.m = m;
    result.n = n;
    result.r = std::min(m, n);
    if (result.r == 0) return result;
    std::vector<double> s;
    std::vector<double> u(static_cast<std::size_t>(m * result.r));
    std::vector<double> vt(static_cast<std::size_t>(result.r * n));
    factorize('S', a, m, n, s, u, vt);
    for (std::int64_t j = 0; j < result.r; ++j) {
        double largest = 0;
        for (std::int64_t i = 0; i < m; ++i) {
            const double value = u[static_cast<std::size_t>(i * result.r + j)];
            if (std::abs(value) > std::abs(largest)) largest = value;
        }
        if (largest >= 0) continue;
        for (std::int64_t i = 0; i < m; ++i) u[static_cast<std::size_t>(i * result.r + j)] *= -1;
        for (std::int64_t i = 0; i < n; ++i) vt[static_cast<std::size_t>(j * n + i)] *= -1;
    }
    result.u.assign(u.begin(), u.end());
    result.s.assign(s.begin(), s.end());
    result.vt.assign(vt.begin(), vt.end());
    return result;
}

std::vector<float> singularValues(std::span<const float> a, std::int64_t m, std::int64_t n) {
    std::vector<double> s;
    std::vector<double> none(1);
    if (std::min(m, n) > 0) factorize('N', a, m, n, s, none, none);
    return {s.begin(), s.end()};
}

}  // namespace tcompress::kernels
