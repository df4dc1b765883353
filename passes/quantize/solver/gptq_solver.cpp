#include "passes/quantize/solver/gptq_solver.h"

#include "kernels/multiversion.h"
#include "passes/quantize/grid/group_grid.h"
#include "passes/quantize/solver/output_error.h"

namespace tcompress::passes {
namespace {

constexpr std::int64_t kTile = FeedbackStep::kMostChannels;

/// Grids of the output channels of one step.
struct Grids {
    float scales[kTile], low[kTile], high[kTile];
    float zeros[kTile];
    float shifts[kTile];  ///< quotients are whole numbers after these are added: 0 but at 1 bit
};

TCOMPRESS_MULTIVERSION void roundRow(const Grids& grids, std::int64_t count, float* values, std::int32_t* codes) {
    for (std::int64_t i = 0; i < count; ++i) {
        const float x = clamped(values[i] / grids.scales[i], grids.low[i], grids.high[i]);
        const float q = roundHalfEven(x + grids.shifts[i]) - grids.shifts[i];
        codes[i] = static_cast<std::int32_t>(roundHalfEven(q + grids.zeros[i]));
        values[i] = q * grids.scales[i];
    }
}

/// Rounds to the grids of a quantized weight and stores the codes there.
class GridRounder {
  public:
    explicit GridRounder(QuantizedWeights& result) : result_(result), layout_(result.layout) {}

    void round(const FeedbackStep& step) const {
        Grids grids;
        std::int32_t codes[kTile];
        const CodeRange range = codeRange(result_.rule);
        const std::int64_t block = step.input / layout_.block;
        std::size_t places[kTile];
        for (std::int64_t i = 0; i < step.count; ++i) {
            const std::int64_t channel = step.first + i;
            const std::int64_t outer = channel / layout_.inner, inner = channel % layout_.inner;
            const auto group =
                static_cast<std::size_t>((outer * layout_.blocks() + block) * layout_.inner + inner);
            places[i] = static_cast<std::size_t>((outer * layout_.axis + step.input) * layout_.inner + inner);
            const float zero = result_.zeroOf(group);
            grids.scales[i] = result_.scales[group];
            grids.low[i] = static_cast<float>(range.low) - zero;
            grids.high[i] = static_cast<float>(range.high) - zero;
            grids.zeros[i] = zero;
            grids.shifts[i] = result_.rule.bits == 1 ? zero : 0.0F;
        }
        roundRow(grids, step.count, step.values, codes);
        for (std::int64_t i = 0; i < step.count; ++i)
            result_.codes[places[i]] = static_cast<std::uint8_t>(codes[i]);
    }

  private:
    QuantizedWeights& result_;
    const kernels::QuantizationLayout& layout_;
};

}  // namespace

QuantizedWeights roundByGptq(std::span<const float> weights, QuantizedWeights grids, const FeedbackFactor& factor,
                             std::int64_t blockSize) {
    if (weights.empty()) return grids;
    const std::vector<float> matrix = byInputChannel(weights, grids.layout);
    ErrorFeedback problem;
    problem.weights = matrix;
    problem.channels = grids.layout.outer * grids.layout.inner;
    problem.blockSize = blockSize;
    const GridRounder rounder(grids);
    roundWithFeedback(problem, factor, [&](const FeedbackStep& step) { rounder.round(step); });
    measureRelativeError(grids, weights);
    return grids;
}

std::optional<QuantizedWeights> quantizeByGptq(std::span<const float> weights,
                                               const kernels::QuantizationLayout& layout,
                                               const QuantizationRule& rule, const FeedbackFactor& factor) {
    auto grids = quantizeWeights(weights, layout, rule);
    if (!grids) return grids;
    return roundByGptq(weights, std::move(*grids), factor);
}

}  // namespace tcompress::passes
