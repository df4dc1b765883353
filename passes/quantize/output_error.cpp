#include "passes/quantize/output_error.h"

#include <cmath>

#include "kernels/matmul.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::passes {

std::vector<float> byInputChannel(std::span<const float> values, const kernels::QuantizationLayout& layout) {
    TCOMPRESS_CHECK(static_cast<std::int64_t>(values.size()) == layout.size(),
                    "the values do not fill their layout");
    const std::int64_t channels = layout.outer * layout.inner;
    std::vector<float> matrix(values.size());
    parallelFor(layout.axis, [&](std::int64_t row) {
        float* target = matrix.data() + row * channels;
        for (std::int64_t outer = 0; outer < layout.outer; ++outer) {
            const float* source = values.data() + (outer * layout.axis + row) * layout.inner;
            for (std::int64_t inner = 0; inner < layout.inner; ++inner) *target++ = source[inner];
        }
    });
    return matrix;
}

std::vector<float> scaledByInputChannel(std::span<const float> weights,
                                        const kernels::QuantizationLayout& layout,
                                        const std::vector<float>& factors) {
    std::vector<float> result(weights.begin(), weights.end());
    if (factors.empty()) return result;
    for (std::int64_t outer = 0; outer < layout.outer; ++outer)
        for (std::int64_t i = 0; i < layout.axis; ++i) {
            float* row = result.data() + (outer * layout.axis + i) * layout.inner;
            for (std::int64_t inner = 0; inner < layout.inner; ++inner)
                row[inner] *= factors[static_cast<std::size_t>(i)];
        }
    return result;
}

double outputEnergy(std::span<const float> weights, const kernels::QuantizationLayout& layout,
                    std::span<const double> secondMoment) {
    const std::int64_t n = layout.axis, channels = layout.outer * layout.inner;
    TCOMPRESS_CHECK(static_cast<std::int64_t>(secondMoment.size()) == n * n,
                    "the second moment does not fit the summed axis");
    if (n == 0 || channels == 0) return 0;
    const std::vector<float> matrix = byInputChannel(weights, layout);
    double trace = 0;
    for (std::int64_t i = 0; i < n; ++i) trace += secondMoment[static_cast<std::size_t>(i * n + i)];
    if (!(trace > 0)) return 0;
    // The product is made in float32, which any multiple of H must fit.
    const double unit = trace / static_cast<double>(n);
    std::vector<float> h(secondMoment.size());
    parallelRanges(n * n, 65536, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
            h[static_cast<std::size_t>(i)] =
                static_cast<float>(secondMoment[static_cast<std::size_t>(i)] / unit);
    });
    std::vector<float> product(matrix.size());
    kernels::BatchedMatmul matmul;
    matmul.m = matmul.k = n;
    matmul.n = channels;
    matmul.a = h.data();
    matmul.aRowStride = n;
    matmul.b = matrix.data();
    matmul.bRowStride = channels;
    matmul.c = product.data();
    matmul.cRowStride = channels;
    kernels::matmul(matmul);
    std::vector<double> rows(static_cast<std::size_t>(n));
    parallelFor(n, [&](std::int64_t row) {
        double sum = 0;
        for (std::int64_t i = row * channels; i < (row + 1) * channels; ++i)
            sum += static_cast<double>(matrix[static_cast<std::size_t>(i)]) *
                   product[static_cast<std::size_t>(i)];
        rows[static_cast<std::size_t>(row)] = sum;
    });
    double energy = 0;
    for (const double row : rows) energy += row;
    return std::max(0.0, energy * unit);
}

double relativeOutputError(std::span<const float> weights, std::span<const float> replaced,
                           const kernels::QuantizationLayout& layout, std::span<const double> secondMoment) {
    TCOMPRESS_CHECK(weights.size() == replaced.size(), "weights of different sizes are compared");
    const double all = outputEnergy(weights, layout, secondMoment);
    if (!(all > 0)) return 0;
    std::vector<float> difference(weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i) difference[i] = weights[i] - replaced[i];
    return std::sqrt(outputEnergy(difference, layout, secondMoment) / all);
}

}  // namespace tcompress::passes
