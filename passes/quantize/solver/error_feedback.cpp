#include "passes/quantize/solver/error_feedback.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/linalg.h"
#include "kernels/matmul.h"
#include "kernels/multiversion.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"
#include "passes/quantize/solver/add_multiple.h"

namespace tcompress::passes {
namespace {

constexpr std::int64_t kTile = FeedbackStep::kMostChannels;

/// Input channel at each place of the solve: what is rounded first comes last. Neighbours of a block stay
/// side by side.
std::vector<std::int64_t> solveOrder(std::span<const double> h, std::int64_t n, ColumnOrder order,
                                     std::int64_t d) {
    std::vector<std::int64_t> blocks(static_cast<std::size_t>(n / d));
    std::iota(blocks.rbegin(), blocks.rend(), 0);
    if (order == ColumnOrder::activation) {
        std::vector<double> energy(blocks.size(), 0.0);
        for (std::int64_t i = 0; i < n; ++i)
            energy[static_cast<std::size_t>(i / d)] += h[static_cast<std::size_t>(i * n + i)];
        std::stable_sort(blocks.begin(), blocks.end(), [&](std::int64_t a, std::int64_t b) {
            return energy[static_cast<std::size_t>(a)] < energy[static_cast<std::size_t>(b)];
        });
    }
    std::vector<std::int64_t> places;
    for (const std::int64_t block : blocks)
        for (std::int64_t k = 0; k < d; ++k) places.push_back(block * d + k);
    return places;
}

/// L of the damped H in the order of the solve. Factored in double: H is often close to singular.
std::vector<float> factorOf(std::span<const double> h, const std::vector<std::int64_t>& order, double damp) {
    const auto n = static_cast<std::int64_t>(order.size());
    double mean = 0;
    for (std::int64_t i = 0; i < n; ++i) mean += h[static_cast<std::size_t>(i * n + i)];
    mean /= static_cast<double>(n);
    // Inputs that are always zero leave no preference: any H will do.
    const double added = mean > 0 ? damp * mean : 1.0;
    std::vector<double> permuted(h.size());
    parallelFor(n, [&](std::int64_t row) {
        const double* source = h.data() + order[static_cast<std::size_t>(row)] * n;
        double* target = permuted.data() + row * n;
        for (std::int64_t column = 0; column < n; ++column)
            target[column] = source[order[static_cast<std::size_t>(column)]];
        target[row] += added;
    });
    kernels::cholesky(permuted, n);
    return {permuted.begin(), permuted.end()};
}

TCOMPRESS_MULTIVERSION void multiple(float* target, const float* source, float factor, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) target[i] = factor * source[i];
}

TCOMPRESS_MULTIVERSION void difference(float* target, const float* a, const float* b, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) target[i] = a[i] - b[i];
}

class Solver {
  public:
    Solver(const ErrorFeedback& problem, const FeedbackFactor& factor,
           const std::function<void(const FeedbackStep&)>& round)
        : weights_(problem.weights.data()),
          n_(factor.inputs),
          channels_(problem.channels),
          dimension_(factor.dimension),
          blockSize_((problem.blockSize + dimension_ - 1) / dimension_ * dimension_),
          order_(factor.channelAt),
          l_(factor.l),
          work_(problem.weights.size()),
          round_(round) {}

    void run() {
        parallelFor(n_, [&](std::int64_t place) {
            float* target = work_.data() + place * channels_;
            multiple(target, weightsAt(place), l(place, place), channels_);
            const std::int64_t end = place / dimension_ * dimension_ + dimension_;
            for (std::int64_t other = place + 1; other < end; ++other)
                addMultiple(target, weightsAt(other), l(other, place), channels_);
        });
        for (std::int64_t end = n_; end > 0;) {
            const std::int64_t begin = std::max<std::int64_t>(0, end - blockSize_);
            parallelRanges(channels_, kTile, [&](std::int64_t first, std::int64_t last) {
                std::vector<float> values(static_cast<std::size_t>(dimension_ * kTile));
                for (std::int64_t place = end; place > begin; place -= dimension_)
                    solve(place - dimension_, begin, first, last - first, values);
            });
            handOn(begin, end);
            end = begin;
        }
    }

  private:
    float l(std::int64_t row, std::int64_t column) const {
        return l_[static_cast<std::size_t>(row * n_ + column)];
    }

    const float* weightsAt(std::int64_t place) const {
        return weights_ + order_[static_cast<std::size_t>(place)] * channels_;
    }

    /// The block at `place`; its errors go to the places from `begin` on before it.
    void solve(std::int64_t place, std::int64_t begin, std::int64_t first, std::int64_t count,
               std::vector<float>& values) {
        float* rows = work_.data() + place * channels_ + first;
        std::vector<float> factor(static_cast<std::size_t>(dimension_ * dimension_));
        for (std::int64_t k = dimension_ - 1; k >= 0; --k) {
            float* value = values.data() + k * kTile;
            std::copy_n(rows + k * channels_, count, value);
            for (std::int64_t j = k + 1; j < dimension_; ++j)
                addMultiple(value, values.data() + j * kTile, -l(place + j, place + k), count);
            multiple(value, value, 1 / l(place + k, place + k), count);
            for (std::int64_t j = k; j < dimension_; ++j)
                factor[static_cast<std::size_t>(k * dimension_ + j)] = l(place + j, place + k);
        }
        round_({order_[static_cast<std::size_t>(place)], first, count, values.data(), factor});
        for (std::int64_t k = 0; k < dimension_; ++k) {
            float* error = rows + k * channels_;
            difference(error, weightsAt(place + k) + first, values.data() + k * kTile, count);
            for (std::int64_t earlier = begin; earlier < place; ++earlier)
                addMultiple(work_.data() + earlier * channels_ + first, error, l(place + k, earlier), count);
        }
    }

    /// work[0 … begin) += L[begin … end, 0 … begin)ᵀ · E[begin … end).
    void handOn(std::int64_t begin, std::int64_t end) {
        if (begin == 0) return;
        kernels::BatchedMatmul product;
        product.m = begin;
        product.n = channels_;
        product.k = end - begin;
        product.a = l_.data() + begin * n_;
        product.aRowStride = 1;
        product.aColumnStride = n_;
        product.b = work_.data() + begin * channels_;
        product.bRowStride = channels_;
        product.c = work_.data();
        product.cRowStride = channels_;
        product.epilogue.residual = work_.data();
        kernels::matmul(product);
    }

    const float* weights_;
    std::int64_t n_, channels_, dimension_, blockSize_;
    const std::vector<std::int64_t>& order_;
    const std::vector<float>& l_;
    /// Rows at their places: L_BBᵀ·W_B plus what is handed on until a block is solved, then its errors.
    std::vector<float> work_;
    const std::function<void(const FeedbackStep&)>& round_;
};

}  // namespace

FeedbackFactor feedbackFactor(std::span<const double> secondMoment, std::int64_t inputs, double damp,
                              ColumnOrder order, std::int64_t dimension) {
    TCOMPRESS_CHECK(dimension > 0 && inputs % dimension == 0, "input channels are no whole number of blocks");
    TCOMPRESS_CHECK(static_cast<std::int64_t>(secondMoment.size()) == inputs * inputs,
                    "the second moment does not fit the summed axis");
    FeedbackFactor factor{inputs, dimension, solveOrder(secondMoment, inputs, order, dimension), {}};
    factor.l = factorOf(secondMoment, factor.channelAt, damp);
    return factor;
}

void roundWithFeedback(const ErrorFeedback& problem, const FeedbackFactor& factor,
                       const std::function<void(const FeedbackStep&)>& round) {
    TCOMPRESS_CHECK(problem.blockSize > 0, "a block of no input channels");
    TCOMPRESS_CHECK(static_cast<std::int64_t>(problem.weights.size()) == factor.inputs * problem.channels,
                    "the weights do not fit the factor");
    if (!problem.weights.empty()) Solver(problem, factor, round).run();
}

}  // namespace tcompress::passes
