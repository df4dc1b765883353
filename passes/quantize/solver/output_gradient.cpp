#include "passes/quantize/solver/output_gradient.h"

#include <algorithm>

#include "kernels/matmul.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::passes {
namespace {

constexpr std::int64_t kTile = 64;

kernels::BatchedMatmul columnsTimes(const std::vector<float>& h, std::int64_t inputs, std::int64_t channels,
                                    std::int64_t begin, std::int64_t end, const float* rows, float* out) {
    kernels::BatchedMatmul product;
    product.m = inputs;
    product.n = channels;
    product.k = end - begin;
    product.a = h.data() + begin;
    product.aRowStride = inputs;
    product.b = rows;
    product.bRowStride = channels;
    product.c = out;
    product.cRowStride = channels;
    return product;
}

}  // namespace

OutputGradient::OutputGradient(std::span<const double> secondMoment, std::int64_t inputs, std::int64_t channels,
                               double damp)
    : inputs_(inputs),
      channels_(channels),
      h_(secondMoment.size()),
      values_(static_cast<std::size_t>(inputs * channels), 0.0F) {
    TCOMPRESS_CHECK(static_cast<std::int64_t>(secondMoment.size()) == inputs * inputs,
                    "the second moment does not fit the summed axis");
    double mean = 0;
    for (std::int64_t i = 0; i < inputs; ++i) mean += secondMoment[static_cast<std::size_t>(i * inputs + i)];
    mean /= static_cast<double>(std::max<std::int64_t>(1, inputs));
    const double unit = mean > 0 ? 1 / mean : 0;
    parallelFor(inputs, [&](std::int64_t row) {
        for (std::int64_t i = row * inputs; i < (row + 1) * inputs; ++i)
            h_[static_cast<std::size_t>(i)] =
                static_cast<float>(secondMoment[static_cast<std::size_t>(i)] * unit);
        // Inputs that are always zero leave no preference: any H will do.
        h_[static_cast<std::size_t>(row * inputs + row)] += static_cast<float>(mean > 0 ? damp : 1);
    });
}

void OutputGradient::product(std::int64_t begin, std::int64_t end, const float* rows, float* out) const {
    kernels::matmul(columnsTimes(h_, inputs_, channels_, begin, end, rows, out));
}

void OutputGradient::add(std::int64_t begin, std::int64_t end, const float* rows, float factor) {
    auto product = columnsTimes(h_, inputs_, channels_, begin, end, rows, values_.data());
    product.epilogue.alpha = factor;
    product.epilogue.residual = values_.data();
    kernels::matmul(product);
}

std::vector<double> columnProducts(std::span<const float> a, std::span<const float> b, std::int64_t columns,
                                   std::int64_t begin, std::int64_t end) {
    std::vector<double> sums(static_cast<std::size_t>(columns), 0.0);
    parallelRanges(columns, kTile, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t row = begin; row < end; ++row)
            for (std::int64_t c = first; c < last; ++c) {
                const auto at = static_cast<std::size_t>(row * columns + c);
                sums[static_cast<std::size_t>(c)] += static_cast<double>(a[at]) * b[at];
            }
    });
    return sums;
}

}  // namespace tcompress::passes
