#include "passes/quantize/solver/output_error.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/matmul.h"
#include "kernels/native/transpose_matrix.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::passes {

namespace {

/// Rows of H that are multiplied at once.
constexpr std::int64_t kRows = 512;
constexpr std::int64_t kRowsOfATask = 64;

}  // namespace

std::vector<float> byInputChannel(std::span<const float> values, const kernels::QuantizationLayout& layout) {
    TCOMPRESS_CHECK(static_cast<std::int64_t>(values.size()) == layout.size(),
                    "the values do not fill their layout");
    std::vector<float> matrix(values.size());
    parallelRanges(layout.axis, kRowsOfATask, [&](std::int64_t begin, std::int64_t end) {
        copyInputChannels(values, layout, begin, end,
                          matrix.data() + begin * layout.outer * layout.inner);
    });
    return matrix;
}

void copyInputChannels(std::span<const float> values, const kernels::QuantizationLayout& layout, std::int64_t begin,
                       std::int64_t end, float* target) {
    const std::int64_t channels = layout.outer * layout.inner;
    if (layout.inner == 1)
        return kernels::transposeMatrix(values.data() + begin, layout.axis, channels, end - begin, target, channels);
    for (std::int64_t row = begin; row < end; ++row)
        for (std::int64_t outer = 0; outer < layout.outer; ++outer, target += layout.inner)
            std::copy_n(values.data() + (outer * layout.axis + row) * layout.inner, layout.inner, target);
}

std::vector<float> scaledByInputChannel(std::span<const float> weights,
                                        const kernels::QuantizationLayout& layout,
                                        const std::vector<float>& factors) {
    std::vector<float> result(weights.begin(), weights.end());
    if (factors.empty()) return result;
    parallelRanges(layout.outer * layout.axis, kRowsOfATask, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            float* values = result.data() + row * layout.inner;
            const float factor = factors[static_cast<std::size_t>(row % layout.axis)];
            for (std::int64_t inner = 0; inner < layout.inner; ++inner) values[inner] *= factor;
        }
    });
    return result;
}

OutputMetric::OutputMetric(std::span<const double> secondMoment, std::int64_t inputs) : inputs_(inputs) {
    TCOMPRESS_CHECK(static_cast<std::int64_t>(secondMoment.size()) == inputs * inputs,
                    "the second moment does not fit the summed axis");
    double trace = 0;
    for (std::int64_t i = 0; i < inputs; ++i) trace += secondMoment[static_cast<std::size_t>(i * inputs + i)];
    if (!(trace > 0)) return;
    unit_ = trace / static_cast<double>(inputs);
    h_.resize(secondMoment.size());
    parallelFor(inputs, [&](std::int64_t row) {
        const std::int64_t square = row / kRows * kRows, end = std::min(inputs, square + kRows);
        for (std::int64_t column = 0; column < end; ++column) {
            const auto at = static_cast<std::size_t>(row * inputs + column);
            h_[at] = static_cast<float>((column < square ? 2 : 1) * secondMoment[at] / unit_);
        }
    });
}

double OutputMetric::energy(std::span<const float> matrix) const {
    if (h_.empty() || matrix.empty()) return 0;
    const std::int64_t channels = static_cast<std::int64_t>(matrix.size()) / inputs_;
    TCOMPRESS_CHECK(static_cast<std::int64_t>(matrix.size()) == inputs_ * channels,
                    "the matrix does not fit the second moment");
    std::vector<float> product(static_cast<std::size_t>(std::min(kRows, inputs_) * channels));
    std::vector<double> rows(static_cast<std::size_t>(inputs_));
    for (std::int64_t begin = 0; begin < inputs_; begin += kRows) {
        const std::int64_t end = std::min(inputs_, begin + kRows);
        kernels::BatchedMatmul matmul;
        matmul.m = end - begin;
        matmul.n = channels;
        matmul.k = end;
        matmul.a = h_.data() + begin * inputs_;
        matmul.aRowStride = inputs_;
        matmul.b = matrix.data();
        matmul.bRowStride = channels;
        matmul.c = product.data();
        matmul.cRowStride = channels;
        kernels::matmul(matmul);
        parallelFor(end - begin, [&](std::int64_t row) {
            const float *values = matrix.data() + (begin + row) * channels, *with = product.data() + row * channels;
            double sum = 0;
            for (std::int64_t c = 0; c < channels; ++c) sum += static_cast<double>(values[c]) * with[c];
            rows[static_cast<std::size_t>(begin + row)] = sum;
        });
    }
    return std::max(0.0, std::accumulate(rows.begin(), rows.end(), 0.0) * unit_);
}

double outputEnergy(std::span<const float> weights, const kernels::QuantizationLayout& layout,
                    std::span<const double> secondMoment) {
    return OutputMetric(secondMoment, layout.axis).energy(byInputChannel(weights, layout));
}

double relativeOutputError(std::span<const float> weights, std::span<const float> replaced,
                           const kernels::QuantizationLayout& layout, std::span<const double> secondMoment) {
    TCOMPRESS_CHECK(weights.size() == replaced.size(), "weights of different sizes are compared");
    const OutputMetric metric(secondMoment, layout.axis);
    const double all = metric.energy(byInputChannel(weights, layout));
    if (!(all > 0)) return 0;
    std::vector<float> difference(weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i) difference[i] = weights[i] - replaced[i];
    return std::sqrt(metric.energy(byInputChannel(difference, layout)) / all);
}

}  // namespace tcompress::passes
