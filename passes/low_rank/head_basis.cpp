#include "passes/low_rank/head_basis.h"

#include <algorithm>
#include <cmath>

#include "kernels/linalg.h"

namespace tcompress::passes {
namespace {

using kernels::Transposition;
using kernels::Triangle;

/// R with R·Rᵀ = moment; directions without any data get a little, so that R can be inverted.
std::vector<double> rootOf(std::vector<double> moment, std::int64_t size) {
    double trace = 0;
    for (std::int64_t i = 0; i < size; ++i) trace += moment[static_cast<std::size_t>(i * size + i)];
    const double added = trace > 0 ? 1e-6 * trace / static_cast<double>(size) : 1.0;
    for (std::int64_t i = 0; i < size; ++i) moment[static_cast<std::size_t>(i * size + i)] += added;
    kernels::cholesky(moment, size);
    return moment;
}

/// R⁻ᵀ·m.
std::vector<double> unroot(const std::vector<double>& root, std::vector<double> m, std::int64_t size, std::int64_t columns) {
    kernels::solveTriangular(Triangle::lower, Transposition::yes, root, size, m, columns);
    return m;
}

kernels::Svd decompose(const std::vector<double>& m, std::int64_t rows, std::int64_t columns) {
    const std::vector<float> values(m.begin(), m.end());
    return kernels::svd(values, rows, columns);
}

/// Singular values, none so small that a square root of it divides badly.
std::vector<double> valuesOf(const kernels::Svd& svd, std::int64_t size) {
    std::vector<double> values(svd.s.begin(), svd.s.end());
    values.resize(static_cast<std::size_t>(size), 0.0);
    const double least = std::max(1e-6 * values.front(), 1e-30);
    for (double& value : values) value = std::max(value, least);
    return values;
}

}  // namespace

HeadBasis scoreBasis(const std::vector<double>& queryMoment, const std::vector<double>& keyMoment, std::int64_t size) {
    const std::vector<double> queryRoot = rootOf(queryMoment, size), keyRoot = rootOf(keyMoment, size);
    std::vector<double> core(queryRoot.size());
    kernels::gemm(Transposition::yes, Transposition::no, size, size, size, queryRoot, keyRoot, core);
    const kernels::Svd svd = decompose(core, size, size);
    HeadBasis basis{{}, std::vector<double>(core.size()), valuesOf(svd, size)};
    std::vector<double> left(core.size());
    for (std::int64_t i = 0; i < size; ++i)
        for (std::int64_t k = 0; k < size; ++k)
            left[static_cast<std::size_t>(i * size + k)] = static_cast<double>(svd.u[static_cast<std::size_t>(i * size + k)]) *
                                                           std::sqrt(basis.values[static_cast<std::size_t>(k)]);
    basis.left = unroot(queryRoot, std::move(left), size, size);
    // The other is exactly the inverse's transposed, whatever rounding did to the decomposition.
    std::vector<double> gram(core.size());
    kernels::gemm(Transposition::yes, Transposition::no, size, size, size, basis.left, basis.left, gram);
    kernels::invertPositiveDefinite(gram, size);
    kernels::gemm(Transposition::no, Transposition::no, size, size, size, basis.left, gram, basis.right);
    return basis;
}

HeadBasis contextBasis(const std::vector<double>& contextMoment, const std::vector<double>& weight, std::int64_t size) {
    const std::int64_t outputs = static_cast<std::int64_t>(weight.size()) / size;
    const std::vector<double> root = rootOf(contextMoment, size);
    std::vector<double> whitened(weight.size());
    kernels::gemm(Transposition::yes, Transposition::no, size, outputs, size, root, weight, whitened);
    // Only the left singular vectors are needed: those of the small product with itself.
    std::vector<double> product(root.size());
    kernels::gemm(Transposition::no, Transposition::yes, size, size, outputs, whitened, whitened, product);
    const kernels::SymmetricEigen eigen = kernels::symmetricEigen(std::move(product), size);
    HeadBasis basis{{}, std::vector<double>(root.size()), {}};
    std::vector<double> u(root.size());
    for (std::int64_t k = 0; k < size; ++k) {
        basis.values.push_back(std::sqrt(std::max(0.0, eigen.values[static_cast<std::size_t>(size - 1 - k)])));
        for (std::int64_t i = 0; i < size; ++i)
            u[static_cast<std::size_t>(i * size + k)] = eigen.vectors[static_cast<std::size_t>(i * size + size - 1 - k)];
    }
    // left = R⁻ᵀ·U, right = Uᵀ·Rᵀ.
    kernels::gemm(Transposition::yes, Transposition::yes, size, size, size, u, root, basis.right);
    basis.left = unroot(root, std::move(u), size, size);
    return basis;
}

}  // namespace tcompress::passes
