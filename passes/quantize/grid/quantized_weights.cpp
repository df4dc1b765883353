#include "passes/quantize/grid/quantized_weights.h"

#include <algorithm>
#include <cmath>

#include "kernels/multiversion.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"
#include "passes/quantize/grid/scale_codes.h"

namespace tcompress::passes {
namespace {

/// Neighbouring values, of one group or of one each of neighbouring groups.
struct Run {
    static constexpr std::int64_t kMost = 256;
    std::int64_t first = 0, count = 0;
    std::int64_t group = 0;      ///< of the first value
    std::int64_t groupStep = 0;  ///< to the next value's
};

/// A tensor's rows: where groups lie side by side (inner 1) one an outer place, else one a place of outer and axis.
class Runs {
  public:
    explicit Runs(const kernels::QuantizationLayout& layout) : layout_(layout) {}

    std::int64_t rows() const { return layout_.inner == 1 ? layout_.outer : layout_.outer * layout_.axis; }
    std::int64_t rowsOfATask() const {
        constexpr std::int64_t kValues = 1 << 16;
        return std::max<std::int64_t>(1, kValues / std::max<std::int64_t>(1, width()));
    }

    template <class Visit>
    void visit(std::int64_t begin, std::int64_t end, Visit visit) const {
        for (std::int64_t row = begin; row < end; ++row) {
            if (layout_.inner == 1)
                for (std::int64_t block = 0; block < layout_.blocks(); ++block) {
                    const std::int64_t from = block * layout_.block;
                    pieces({row * layout_.axis + from, std::min(layout_.block, layout_.axis - from),
                            row * layout_.blocks() + block, 0},
                           visit);
                }
            else
                pieces({row * layout_.inner, layout_.inner,
                        (row / layout_.axis * layout_.blocks() + row % layout_.axis / layout_.block) *
                            layout_.inner,
                        1},
                       visit);
        }
    }

  private:
    std::int64_t width() const { return layout_.inner == 1 ? layout_.axis : layout_.inner; }

    template <class Visit>
    static void pieces(const Run& run, Visit& visit) {
        for (std::int64_t done = 0; done < run.count; done += Run::kMost)
            visit(Run{run.first + done, std::min(Run::kMost, run.count - done), run.group + done * run.groupStep,
                      run.groupStep});
    }

    const kernels::QuantizationLayout& layout_;
};

/// `signBit`: 128 for codes that are int8, 0 for uint8.
TCOMPRESS_MULTIVERSION void decode(const std::uint8_t* codes, std::int64_t count, int signBit, const float* scales,
                                   const float* zeros, float* values) {
    for (std::int64_t i = 0; i < count; ++i)
        values[i] = (static_cast<float>((codes[i] ^ signBit) - signBit) - zeros[i]) * scales[i];
}

void dequantize(const QuantizedWeights& weights, const Run& run, float* values) {
    float scales[Run::kMost], zeros[Run::kMost];
    for (std::int64_t i = 0; i < run.count; ++i) {
        const auto group = static_cast<std::size_t>(run.group + i * run.groupStep);
        scales[i] = weights.scales[group];
        zeros[i] = weights.zeroOf(group);
    }
    decode(weights.codes.data() + run.first, run.count, weights.zeroPoints.empty() ? 128 : 0, scales, zeros, values);
}

}  // namespace

float smallestScale(DType type) { return type == DType::float16 ? kSmallestHalfScale : kSmallestMagnitude; }

float storedScale(float scale, DType type) { return type == DType::float16 ? raisedToHalf(scale) : scale; }

bool isTernary(const QuantizationRule& rule) {
    return rule.bits == 2 && rule.symmetry == Symmetry::balanced;
}

float QuantizedWeights::zeroOf(std::size_t group) const {
    if (!realZeros.empty()) return realZeros[group];
    if (rule.bits == 1) return 0.5F;
    return zeroPoints.empty() ? 0.0F : zeroPoints[group];
}

CodeRange codeRange(const QuantizationRule& rule) {
    const std::int32_t codes = 1 << rule.bits;
    if (rule.symmetry == Symmetry::asymmetric || rule.bits == 1) return {0, codes - 1};
    if (rule.symmetry == Symmetry::fullRange) return {-codes / 2, codes / 2 - 1};
    const std::int32_t limit = rule.balancedLimit > 0 ? rule.balancedLimit : codes / 2 - 1;
    return {-limit, limit};
}

int storedOffset(const QuantizationRule& rule) {
    if (rule.symmetry == Symmetry::asymmetric || rule.bits == 1) return 0;
    return isTernary(rule) ? 1 : 1 << (rule.bits - 1);
}

kernels::QuantizationLayout groupedLayout(const Shape& shape, std::size_t axis, std::int64_t block) {
    TCOMPRESS_CHECK(axis < shape.size(), "the quantized axis is not in the shape");
    kernels::QuantizationLayout layout;
    layout.granularity = kernels::Granularity::block;
    layout.axis = shape[axis];
    for (std::size_t i = 0; i < axis; ++i) layout.outer *= shape[i];
    for (std::size_t i = axis + 1; i < shape.size(); ++i) layout.inner *= shape[i];
    layout.block = block;
    return layout;
}

std::vector<float> dequantizeWeights(const QuantizedWeights& weights) {
    std::vector<float> values(weights.codes.size());
    const Runs runs(weights.layout);
    parallelRanges(runs.rows(), runs.rowsOfATask(), [&](std::int64_t begin, std::int64_t end) {
        runs.visit(begin, end, [&](const Run& run) { dequantize(weights, run, values.data() + run.first); });
    });
    return values;
}

QuantizedWeights placeholderWeights(const kernels::QuantizationLayout& layout, const QuantizationRule& rule) {
    const auto groups = static_cast<std::size_t>(layout.outer * layout.blocks() * layout.inner);
    QuantizedWeights weights;
    weights.layout = layout;
    weights.rule = rule;
    weights.codes.assign(static_cast<std::size_t>(layout.size()), 0);
    weights.scales.assign(groups, 1);
    if (rule.scaleType == DType::uint8) {
        weights.scaleCodes.resize(groups);
        weights.scaleUnits.resize((groups + kScalesPerUnit - 1) / kScalesPerUnit);
    }
    if (rule.symmetry == Symmetry::asymmetric && rule.bits == 1) weights.realZeros.resize(groups);
    if (rule.symmetry == Symmetry::asymmetric && rule.bits > 1) weights.zeroPoints.resize(groups);
    return weights;
}

void measureRelativeError(QuantizedWeights& quantized, std::span<const float> weights) {
    const Runs runs(quantized.layout);
    const std::int64_t grain = runs.rowsOfATask();
    struct Energy {
        double error = 0, weight = 0;
    };
    std::vector<Energy> tasks(static_cast<std::size_t>((runs.rows() + grain - 1) / grain));
    parallelRanges(runs.rows(), grain, [&](std::int64_t begin, std::int64_t end) {
        Energy& energy = tasks[static_cast<std::size_t>(begin / grain)];
        runs.visit(begin, end, [&](const Run& run) {
            float after[Run::kMost];
            dequantize(quantized, run, after);
            for (std::int64_t i = 0; i < run.count; ++i) {
                const double before = weights[static_cast<std::size_t>(run.first + i)];
                const double error = static_cast<double>(after[i]) - before;
                energy.error += error * error;
                energy.weight += before * before;
            }
        });
    });
    Energy all;
    for (const Energy& energy : tasks) all.error += energy.error, all.weight += energy.weight;
    quantized.relativeError = all.weight > 0 ? std::sqrt(all.error / all.weight) : 0;
}

}  // namespace tcompress::passes
