#include "passes/rotate/orthogonal.h"

#include <cmath>
#include <numbers>

#include "kernels/linalg.h"
#include "lib/support/check.h"

namespace tcompress::passes {

std::vector<double> randomRotation(std::int64_t n, Random random) {
    const auto size = static_cast<std::size_t>(n * n);
    std::vector<double> basis(size), signedBasis(size), rotation(size);
    std::vector<double> signs(static_cast<std::size_t>(n), 1.0);
    for (std::int64_t k = 1; k < n; ++k)
        if (random.normal() < 0) signs[static_cast<std::size_t>(k)] = -1;
    for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t k = 0; k < n; ++k) {
            const double angle = std::numbers::pi * (static_cast<double>(i) + 0.5) * static_cast<double>(k) /
                                 static_cast<double>(n);
            const auto place = static_cast<std::size_t>(i * n + k);
            basis[place] = std::cos(angle) * std::sqrt((k == 0 ? 1.0 : 2.0) / static_cast<double>(n));
            signedBasis[place] = basis[place] * signs[static_cast<std::size_t>(k)];
        }
    kernels::gemm(kernels::Transposition::no, kernels::Transposition::yes, n, n, n, signedBasis, basis,
                  rotation);
    return rotation;
}

Tensor rotated(const Tensor& tensor, std::size_t axis, std::span<const double> rotation,
               std::span<const float> factors) {
    const Shape& shape = tensor.shape();
    const std::int64_t n = shape[axis];
    TCOMPRESS_CHECK(static_cast<std::int64_t>(rotation.size()) == n * n, "a rotation of another size");
    std::int64_t outer = 1, inner = 1;
    for (std::size_t i = 0; i < axis; ++i) outer *= shape[i];
    for (std::size_t i = axis + 1; i < shape.size(); ++i) inner *= shape[i];
    const auto values = tensor.data<float>();
    Tensor result(DType::float32, shape);
    const auto target = result.mutableData<float>();
    // Vectors as columns of [n, inner], one matrix an outer index; a table's rows are turned together.
    const std::int64_t count = inner == 1 ? outer : inner;
    std::vector<double> before(static_cast<std::size_t>(n * count)), after(before.size());
    const auto place = [&](std::int64_t step, std::int64_t i, std::int64_t column) {
        return static_cast<std::size_t>(inner == 1 ? column * n + i : (step * n + i) * inner + column);
    };
    for (std::int64_t step = 0; step < (inner == 1 ? 1 : outer); ++step) {
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t column = 0; column < count; ++column)
                before[static_cast<std::size_t>(i * count + column)] =
                    static_cast<double>(values[place(step, i, column)]) *
                    (factors.empty() ? 1.0 : factors[static_cast<std::size_t>(i)]);
        kernels::gemm(kernels::Transposition::no, kernels::Transposition::no, n, count, n, rotation, before,
                      after);
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t column = 0; column < count; ++column)
                target[place(step, i, column)] =
                    static_cast<float>(after[static_cast<std::size_t>(i * count + column)]);
    }
    return result;
}

}  // namespace tcompress::passes
