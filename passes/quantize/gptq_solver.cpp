#include "passes/quantize/gptq_solver.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/linalg.h"
#include "kernels/matmul.h"
#include "kernels/multiversion.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"
#include "passes/quantize/output_error.h"

namespace tcompress::passes {
namespace {

constexpr std::int64_t kTile = 64;  ///< output channels that one task takes through a block

/// Input channel at each place of the solve: the one rounded first comes last.
std::vector<std::int64_t> solveOrder(std::span<const double> h, std::int64_t n, ColumnOrder order) {
    std::vector<std::int64_t> places(static_cast<std::size_t>(n));
    std::iota(places.rbegin(), places.rend(), 0);
    if (order == ColumnOrder::natural) return places;
    const auto diagonal = [&](std::int64_t i) { return h[static_cast<std::size_t>(i * n + i)]; };
    std::stable_sort(places.begin(), places.end(),
                     [&](std::int64_t a, std::int64_t b) { return diagonal(a) < diagonal(b); });
    return places;
}

/// L of the damped H in the order of the solve. Factored in double: H is often close to singular.
std::vector<float> factor(std::span<const double> h, const std::vector<std::int64_t>& order, double damp) {
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

/// Columns [begin, end) of one row: codes, and the row's errors in place of `target` (which holds Lₖₖ·Wₖ plus
/// what is handed on).
struct RowStep {
    const float* weights;
    float* target;
    float inverseDiagonal;
    const float* scales;
    const float* low;
    const float* high;
    const float* shifts;  ///< quotients are whole numbers after these are added: 0 but at 1 bit
    float* quotients;
};

TCOMPRESS_MULTIVERSION void roundRow(const RowStep& step, std::int64_t count) {
    constexpr float kRounder = 12582912.0F;  // rounds half to even, for |x| < 2²²
    for (std::int64_t i = 0; i < count; ++i) {
        float x = step.target[i] * step.inverseDiagonal / step.scales[i];
        x = x < step.low[i] ? step.low[i] : x;
        x = x > step.high[i] ? step.high[i] : x;
        const float q = ((x + step.shifts[i] + kRounder) - kRounder) - step.shifts[i];
        step.quotients[i] = q;
        step.target[i] = step.weights[i] - q * step.scales[i];
    }
}

TCOMPRESS_MULTIVERSION void addMultiple(float* target, const float* source, float factor,
                                        std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) target[i] += factor * source[i];
}

class Solver {
  public:
    Solver(QuantizedWeights& result, std::span<const float> weights, std::span<const double> secondMoment,
           const GptqOptions& options)
        : result_(result),
          layout_(result.layout),
          n_(layout_.axis),
          channels_(layout_.outer * layout_.inner),
          blockSize_(options.blockSize),
          order_(solveOrder(secondMoment, n_, options.order)),
          l_(factor(secondMoment, order_, options.damp)),
          weights_(byInputChannel(weights, layout_)),
          work_(weights_.size()) {}

    void run() {
        parallelFor(n_, [&](std::int64_t place) {
            const float diagonal = l(place, place);
            const float* source = weights_.data() + order_[static_cast<std::size_t>(place)] * channels_;
            float* target = work_.data() + place * channels_;
            for (std::int64_t i = 0; i < channels_; ++i) target[i] = diagonal * source[i];
        });
        for (std::int64_t end = n_; end > 0;) {
            const std::int64_t begin = std::max<std::int64_t>(0, end - blockSize_);
            parallelRanges(channels_, kTile, [&](std::int64_t first, std::int64_t last) {
                solveBlock(begin, end, first, last);
            });
            handOn(begin, end);
            end = begin;
        }
    }

  private:
    float l(std::int64_t row, std::int64_t column) const {
        return l_[static_cast<std::size_t>(row * n_ + column)];
    }

    void solveBlock(std::int64_t begin, std::int64_t end, std::int64_t first, std::int64_t last) {
        float scales[kTile], low[kTile], high[kTile], shifts[kTile], quotients[kTile];
        const std::int64_t count = last - first;
        for (std::int64_t place = end - 1; place >= begin; --place) {
            const std::int64_t input = order_[static_cast<std::size_t>(place)];
            grids(input, first, last, scales, low, high, shifts);
            float* row = work_.data() + place * channels_ + first;
            roundRow({weights_.data() + input * channels_ + first, row,
                      1 / l(place, place), scales, low, high, shifts, quotients},
                     count);
            storeCodes(input, first, last, quotients);
            for (std::int64_t earlier = begin; earlier < place; ++earlier)
                addMultiple(work_.data() + earlier * channels_ + first, row,
                            l(place, earlier), count);
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

    std::size_t group(std::int64_t input, std::int64_t channel) const {
        const std::int64_t outer = channel / layout_.inner, inner = channel % layout_.inner;
        return static_cast<std::size_t>((outer * layout_.blocks() + input / layout_.block) * layout_.inner +
                                        inner);
    }

    void grids(std::int64_t input, std::int64_t first, std::int64_t last, float* scales, float* low,
               float* high, float* shifts) const {
        const CodeRange range = codeRange(result_.rule);
        for (std::int64_t channel = first; channel < last; ++channel) {
            const std::size_t place = group(input, channel);
            const float zero = result_.zeroOf(place);
            const std::int64_t i = channel - first;
            scales[i] = result_.scales[place];
            low[i] = static_cast<float>(range.low) - zero;
            high[i] = static_cast<float>(range.high) - zero;
            shifts[i] = result_.rule.bits == 1 ? zero : 0.0F;
        }
    }

    void storeCodes(std::int64_t input, std::int64_t first, std::int64_t last, const float* quotients) {
        for (std::int64_t channel = first; channel < last; ++channel) {
            const std::int64_t outer = channel / layout_.inner, inner = channel % layout_.inner;
            const float zero = result_.zeroOf(group(input, channel));
            result_.codes[static_cast<std::size_t>((outer * n_ + input) * layout_.inner + inner)] =
                static_cast<std::uint8_t>(std::lround(quotients[channel - first] + zero));
        }
    }

    QuantizedWeights& result_;
    const kernels::QuantizationLayout& layout_;
    std::int64_t n_, channels_, blockSize_;
    std::vector<std::int64_t> order_;
    std::vector<float> l_;
    std::vector<float> weights_;
    /// Rows at their places: Lₖₖ·Wₖ plus what is handed on until a row is solved, then its error.
    std::vector<float> work_;
};

}  // namespace

std::optional<QuantizedWeights> quantizeByGptq(std::span<const float> weights,
                                               const kernels::QuantizationLayout& layout,
                                               const QuantizationRule& rule,
                                               std::span<const double> secondMoment,
                                               const GptqOptions& options) {
    TCOMPRESS_CHECK(static_cast<std::int64_t>(secondMoment.size()) == layout.axis * layout.axis,
                    "the second moment does not fit the summed axis");
    TCOMPRESS_CHECK(options.blockSize > 0, "an empty block of input channels");
    auto result = quantizeWeights(weights, layout, rule);
    if (!result || weights.empty()) return result;
    Solver(*result, weights, secondMoment, options).run();
    measureRelativeError(*result, weights);
    return result;
}

}  // namespace tcompress::passes
