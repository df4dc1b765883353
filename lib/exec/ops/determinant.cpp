// Det: the determinant of each square matrix, by elimination with partial pivoting in float64.

#include <algorithm>
#include <cmath>

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

/// `a` is n × n, row by row, and is used up.
double determinant(std::vector<double> a, std::size_t n) {
    double result = 1;
    for (std::size_t k = 0; k < n; ++k) {
        std::size_t pivot = k;
        for (std::size_t row = k + 1; row < n; ++row) {
            if (std::abs(a[row * n + k]) > std::abs(a[pivot * n + k])) pivot = row;
        }
        if (a[pivot * n + k] == 0) return 0;
        if (pivot != k) {
            std::swap_ranges(a.begin() + static_cast<std::ptrdiff_t>(k * n), a.begin() + static_cast<std::ptrdiff_t>((k + 1) * n),
                             a.begin() + static_cast<std::ptrdiff_t>(pivot * n));
            result = -result;
        }
        result *= a[k * n + k];
        for (std::size_t row = k + 1; row < n; ++row) {
            const double factor = a[row * n + k] / a[k * n + k];
            for (std::size_t column = k; column < n; ++column) a[row * n + column] -= factor * a[k * n + column];
        }
    }
    return result;
}

Runner makeDet(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor& x = context.input(0);
        const std::int64_t n = x.rank() < 2 ? 0 : x.shape().back();
        if (n == 0 || x.shape()[x.shape().size() - 2] != n) throw ModelError(fmt::format("{} is no shape of square matrices", toString(x.shape())));
        visitFloat(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const auto y = context.output<T>(0, Shape(x.shape().begin(), x.shape().end() - 2));
            for (std::size_t i = 0; i < y.size(); ++i) {
                const auto matrix = x.data<T>().subspan(i * static_cast<std::size_t>(n * n), static_cast<std::size_t>(n * n));
                y[i] = static_cast<T>(determinant({matrix.begin(), matrix.end()}, static_cast<std::size_t>(n)));
            }
        });
    };
}

const OperatorRow kRows[] = {
    {"", "Det", 11, makeDet, kFloatTypes},
};

}  // namespace

std::span<const OperatorRow> determinantOperators() { return kRows; }

}  // namespace tcompress::exec
