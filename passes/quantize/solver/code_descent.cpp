#include "passes/quantize/solver/code_descent.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "kernels/matmul.h"
#include "kernels/multiversion.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"
#include "passes/quantize/grid/group_grid.h"
#include "passes/quantize/solver/add_multiple.h"
#include "passes/quantize/solver/output_error.h"
#include "passes/quantize/solver/output_gradient.h"

namespace tcompress::passes {
namespace {

/// Output channels that one task works on.
constexpr std::int64_t kTile = 64;
/// Input channels whose changes are handed on to the others together.
constexpr std::int64_t kBlock = 128;
/// Input channels whose errors make the first gradient together.
constexpr std::int64_t kErrorRows = 512;

/// One input channel's row of some output channels.
struct CodeStep {
    float* values;          ///< s·q, moved
    const float* gradient;  ///< G
    float* delta;           ///< by how much
    float* moved;           ///< the sum of what values moved by
    float inverseDiagonal;
    const float* scales;
    const float* zeros;
    float low, high;  ///< codes
};

/// True when a code has moved.
TCOMPRESS_MULTIVERSION bool moveCodes(const CodeStep& step, std::int64_t count) {
    float most = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        const float wanted =
            (step.values[i] + step.gradient[i] * step.inverseDiagonal) / step.scales[i] + step.zeros[i];
        const float code = roundHalfEven(clamped(wanted, step.low, step.high));
        const float value = (code - step.zeros[i]) * step.scales[i];
        const float delta = value - step.values[i];
        step.values[i] = value;
        step.delta[i] = delta;
        step.moved[i] += delta;
        const float size = std::fabs(delta);
        most = size > most ? size : most;
    }
    return most > 0;
}

TCOMPRESS_MULTIVERSION void addProducts(float* sums, const float* a, const float* b, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) sums[i] += a[i] * b[i];
}

class Descent {
  public:
    Descent(QuantizedWeights& quantized, std::span<const float> weights, std::span<const double> secondMoment,
            double damp)
        : quantized_(quantized),
          layout_(quantized.layout),
          n_(layout_.axis),
          channels_(layout_.outer * layout_.inner),
          range_(codeRange(quantized.rule)),
          gradient_(secondMoment, n_, channels_, damp),
          values_(byInputChannel(dequantizeWeights(quantized), layout_)) {
        std::vector<float> errors(static_cast<std::size_t>(std::min(kErrorRows, n_) * channels_));
        for (std::int64_t begin = 0; begin < n_; begin += kErrorRows) {
            const std::int64_t end = std::min(n_, begin + kErrorRows);
            copyInputChannels(weights, layout_, begin, end, errors.data());
            addMultiple(errors.data(), values_.data() + begin * channels_, -1, (end - begin) * channels_);
            gradient_.add(begin, end, errors.data(), 1);
        }
    }

    void run(std::int64_t sweeps) {
        moved_.resize(static_cast<std::size_t>(std::min(kBlock, n_) * channels_));
        for (std::int64_t sweep = 0; sweep < sweeps; ++sweep) {
            if (movesScales() && !groupsFitBlocks())
                for (std::int64_t block = 0; block < layout_.blocks(); ++block) moveScales(block);
            bool any = false;
            for (std::int64_t begin = 0; begin < n_; begin += kBlock)
                any = moveBlock(begin, std::min(n_, begin + kBlock)) || any;
            if (!any) return storeCodes();
        }
        storeCodes();
    }

  private:
    /// What a tile's look at a block has moved, as bits.
    using Moved = unsigned char;
    static constexpr Moved kScales = 1, kCodes = 2;

    /// Scales that are codes themselves have no places between.
    bool movesScales() const { return quantized_.rule.scaleType != DType::uint8; }
    /// What the scales of such groups move is handed on with what the codes in them do.
    bool groupsFitBlocks() const { return kBlock % layout_.block == 0; }

    std::size_t group(std::int64_t block, std::int64_t channel) const {
        const std::int64_t outer = channel / layout_.inner, inner = channel % layout_.inner;
        return static_cast<std::size_t>((outer * layout_.blocks() + block) * layout_.inner + inner);
    }

    /// The scales of one block of the axis, each to its best place.
    void moveScales(std::int64_t block) {
        const std::int64_t begin = block * layout_.block, end = std::min(n_, begin + layout_.block);
        slope_.assign(static_cast<std::size_t>(channels_), 0.0F);
        curvature_.assign(static_cast<std::size_t>(channels_), 0.0F);
        for (std::int64_t from = begin; from < end; from += kBlock)
            addCurvature(begin, end, from, std::min(end, from + kBlock));
        bool any = false;
        for (std::int64_t channel = 0; channel < channels_; ++channel) {
            const auto c = static_cast<std::size_t>(channel);
            slope_[c] = moveScale(slope_[c], curvature_[c], quantized_.scales[group(block, channel)]);
            any = any || slope_[c] != 0;
        }
        if (!any) return;
        for (std::int64_t from = begin; from < end; from += kBlock) {
            const std::int64_t to = std::min(end, from + kBlock);
            parallelFor(to - from, [&](std::int64_t row) {
                float* values = values_.data() + (from + row) * channels_;
                float* moved = moved_.data() + row * channels_;
                for (std::int64_t c = 0; c < channels_; ++c) {
                    moved[c] = values[c] * slope_[static_cast<std::size_t>(c)];
                    values[c] += moved[c];
                }
            });
            gradient_.add(from, to, moved_.data(), -1);
        }
    }

    /// slope += uᵀG and curvature += uᵀHu of each channel, the part of rows [from, to) of a group [begin, end).
    void addCurvature(std::int64_t begin, std::int64_t end, std::int64_t from, std::int64_t to) {
        kernels::BatchedMatmul product;
        product.m = to - from;
        product.n = channels_;
        product.k = end - begin;
        product.a = gradient_.hRow(from) + begin;
        product.aRowStride = n_;
        product.b = values_.data() + begin * channels_;
        product.bRowStride = channels_;
        product.c = moved_.data();
        product.cRowStride = channels_;
        kernels::matmul(product);
        parallelRanges(channels_, kTile, [&](std::int64_t first, std::int64_t last) {
            for (std::int64_t i = from; i < to; ++i) {
                const float* values = values_.data() + i * channels_ + first;
                addProducts(slope_.data() + first, values, gradient_.row(i) + first,
                            last - first);
                addProducts(curvature_.data() + first, values, moved_.data() + (i - from) * channels_ + first,
                            last - first);
            }
        });
    }

    /// The share by which the scale has moved, for uᵀG and uᵀHu.
    float moveScale(float slope, float curvature, float& scale) const {
        float moved = curvature > 0 ? scale * (1 + slope / curvature) : scale;
        if (quantized_.rule.scaleType == DType::float16) moved = toFloat(toHalf(moved));
        const float step = moved / scale - 1;
        const bool fits = std::isfinite(moved) && std::fabs(moved) >= smallestScale(quantized_.rule.scaleType);
        const bool better = fits && step * (2 * slope - step * curvature) > 0;
        if (!better) return 0;
        scale = moved;
        return step;
    }

    /// The scales of the groups that begin at `group`, of some output channels: `local`, G of the rows from `group` to
    /// `end`, and `moved`, of the rows of the group, follow. True when one has moved.
    bool moveScalesInBlock(std::int64_t begin, std::int64_t end, std::int64_t first, std::int64_t count,
                           float* local, float* moved) {
        const std::int64_t groupEnd = std::min(n_, begin + layout_.block);
        float slope[kTile] = {}, curvature[kTile] = {};
        for (std::int64_t i = begin; i < groupEnd; ++i) {
            float product[kTile] = {};
            for (std::int64_t j = begin; j < groupEnd; ++j)
                addMultiple(product, values_.data() + j * channels_ + first, gradient_.h(i, j), count);
            const float* values = values_.data() + i * channels_ + first;
            addProducts(slope, values, local + (i - begin) * kTile, count);
            addProducts(curvature, values, product, count);
        }
        bool any = false;
        for (std::int64_t c = 0; c < count; ++c) {
            slope[c] = moveScale(slope[c], curvature[c],
                                 quantized_.scales[group(begin / layout_.block, first + c)]);
            any = any || slope[c] != 0;
        }
        if (!any) return false;
        for (std::int64_t i = begin; i < groupEnd; ++i) {
            float* row = moved + (i - begin) * channels_;
            float* values = values_.data() + i * channels_ + first;
            addProducts(row, values, slope, count);
            addProducts(values, values, slope, count);
            for (std::int64_t other = begin; other < end; ++other)
                addMultiple(local + (other - begin) * kTile, row, -gradient_.h(i, other), count);
        }
        return true;
    }

    /// The codes of input channels [begin, end), and the scales of groups that lie in them; true when a code has moved.
    bool moveBlock(std::int64_t begin, std::int64_t end) {
        std::vector<Moved> any(static_cast<std::size_t>((channels_ + kTile - 1) / kTile), 0);
        parallelRanges(channels_, kTile, [&](std::int64_t first, std::int64_t last) {
            float scales[kTile], zeros[kTile], delta[kTile], local[kBlock * kTile];
            const std::int64_t count = last - first;
            const auto movedOf = [&](std::int64_t i) { return moved_.data() + (i - begin) * channels_ + first; };
            for (std::int64_t i = begin; i < end; ++i) {
                std::copy_n(gradient_.row(i) + first, count, local + (i - begin) * kTile);
                std::fill_n(movedOf(i), count, 0.0F);
            }
            for (std::int64_t i = begin; i < end; ++i) {
                const bool groupBegins = i % layout_.block == 0;
                if (groupBegins && movesScales() && groupsFitBlocks() &&
                    moveScalesInBlock(i, end, first, count, local + (i - begin) * kTile, movedOf(i)))
                    any[static_cast<std::size_t>(first / kTile)] |= kScales;
                if (i == begin || groupBegins) grids(i, first, last, scales, zeros);
                if (!moveCodes({values_.data() + i * channels_ + first, local + (i - begin) * kTile, delta,
                                movedOf(i), 1 / gradient_.h(i, i), scales, zeros, static_cast<float>(range_.low),
                                static_cast<float>(range_.high)},
                               count))
                    continue;
                any[static_cast<std::size_t>(first / kTile)] |= kCodes;
                for (std::int64_t other = i + 1; other < end; ++other)
                    addMultiple(local + (other - begin) * kTile, delta, -gradient_.h(i, other), count);
            }
        });
        const auto all = std::reduce(any.begin(), any.end(), Moved{}, std::bit_or());
        if (all != 0) gradient_.add(begin, end, moved_.data(), -1);
        return (all & kCodes) != 0;
    }

    void grids(std::int64_t input, std::int64_t first, std::int64_t last, float* scales, float* zeros) const {
        for (std::int64_t channel = first; channel < last; ++channel) {
            const std::size_t place = group(input / layout_.block, channel);
            scales[channel - first] = quantized_.scales[place];
            zeros[channel - first] = quantized_.zeroOf(place);
        }
    }

    void storeCodes() {
        parallelFor(n_, [&](std::int64_t input) {
            for (std::int64_t channel = 0; channel < channels_; ++channel) {
                const std::int64_t outer = channel / layout_.inner, inner = channel % layout_.inner;
                const std::size_t place = group(input / layout_.block, channel);
                const float code = values_[static_cast<std::size_t>(input * channels_ + channel)] /
                                       quantized_.scales[place] +
                                   quantized_.zeroOf(place);
                quantized_.codes[static_cast<std::size_t>((outer * n_ + input) * layout_.inner + inner)] =
                    static_cast<std::uint8_t>(static_cast<int>(std::nearbyint(code)));
            }
        });
    }

    QuantizedWeights& quantized_;
    const kernels::QuantizationLayout& layout_;
    std::int64_t n_, channels_;
    CodeRange range_;
    OutputGradient gradient_;
    std::vector<float> values_;    ///< [n, channels] s·q
    std::vector<float> moved_;     ///< [kBlock, channels] of the values; of a group: H·u
    std::vector<float> slope_, curvature_;
};

}  // namespace

void descend(QuantizedWeights& quantized, std::span<const float> weights, std::span<const double> secondMoment,
             const DescentOptions& options) {
    const kernels::QuantizationLayout& layout = quantized.layout;
    TCOMPRESS_CHECK(static_cast<std::int64_t>(secondMoment.size()) == layout.axis * layout.axis,
                    "the second moment does not fit the summed axis");
    if (weights.empty()) return;
    Descent(quantized, weights, secondMoment, options.damp).run(options.sweeps);
    measureRelativeError(quantized, weights);
}

}  // namespace tcompress::passes
