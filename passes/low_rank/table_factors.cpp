#include "passes/low_rank/table_factors.h"

#include <algorithm>
#include <cmath>

#include "kernels/linalg.h"
#include "lib/support/check.h"

namespace tcompress::passes {

using kernels::Transposition;

namespace {

/// Rows that are converted to float64 at a time.
constexpr std::int64_t kRowsAtOnce = 1024;

/// Calls work(first row, rows in float64, count).
template <class Work>
void forRowBlocks(const Tensor& table, Work work) {
    const std::int64_t rows = table.shape()[0], columns = table.shape()[1];
    const auto values = table.data<float>();
    for (std::int64_t first = 0; first < rows; first += kRowsAtOnce) {
        const std::int64_t count = std::min(kRowsAtOnce, rows - first);
        work(first, std::vector<double>(values.begin() + first * columns, values.begin() + (first + count) * columns), count);
    }
}

}  // namespace

TableFactors usageWeightedFactors(const Tensor& table, const std::vector<double>& usage, std::int64_t rank) {
    const std::int64_t rows = table.shape()[0], columns = table.shape()[1];
    TCOMPRESS_CHECK(std::ssize(usage) == rows, "a weight for every row");
    std::vector<double> gram(static_cast<std::size_t>(columns * columns)), part(gram.size());
    forRowBlocks(table, [&](std::int64_t first, std::vector<double> block, std::int64_t count) {
        for (std::int64_t row = 0; row < count; ++row) {
            const double root = std::sqrt(usage[static_cast<std::size_t>(first + row)]);
            for (std::int64_t c = 0; c < columns; ++c) block[static_cast<std::size_t>(row * columns + c)] *= root;
        }
        kernels::gemm(Transposition::yes, Transposition::no, columns, columns, count, block, block, part);
        for (std::size_t i = 0; i < gram.size(); ++i) gram[i] += part[i];
    });
    const kernels::SymmetricEigen eigen = kernels::symmetricEigen(std::move(gram), columns);
    rank = std::min(rank, columns);
    TableFactors factors{Tensor(DType::float32, {rows, rank}), Tensor(DType::float32, {rank, columns}), 0};
    // Ascending values: the last `rank` columns lead.
    std::vector<double> leading(static_cast<std::size_t>(columns * rank));
    const auto basis = factors.basis.mutableData<float>();
    for (std::int64_t c = 0; c < columns; ++c)
        for (std::int64_t k = 0; k < rank; ++k) {
            const double value = eigen.vectors[static_cast<std::size_t>(c * columns + columns - 1 - k)];
            leading[static_cast<std::size_t>(c * rank + k)] = value;
            basis[static_cast<std::size_t>(k * columns + c)] = static_cast<float>(value);
        }
    const auto thin = factors.rows.mutableData<float>();
    forRowBlocks(table, [&](std::int64_t first, const std::vector<double>& block, std::int64_t count) {
        std::vector<double> product(static_cast<std::size_t>(count * rank));
        kernels::gemm(Transposition::no, Transposition::no, count, rank, columns, block, leading, product);
        std::copy(product.begin(), product.end(), thin.begin() + first * rank);
    });
    double lost = 0, all = 0;
    for (std::int64_t i = 0; i < columns; ++i) {
        const double value = std::max(0.0, eigen.values[static_cast<std::size_t>(i)]);
        all += value;
        if (i < columns - rank) lost += value;
    }
    factors.error = all > 0 ? std::sqrt(lost / all) : 0.0;
    return factors;
}

}  // namespace tcompress::passes
