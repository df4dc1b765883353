#include "passes/quantize/grid/group_quantizer.h"

#include <algorithm>
#include <cmath>

#include "kernels/aligned_buffer.h"
#include "kernels/native/transpose_matrix.h"
#include "lib/support/check.h"
#include "lib/support/mapped_file.h"
#include "lib/support/parallel.h"
#include "passes/quantize/grid/few_levels.h"
#include "passes/quantize/grid/group_grid.h"
#include "passes/quantize/grid/range_search.h"
#include "passes/quantize/grid/scale_codes.h"
#include "passes/quantize/grid/whole_range.h"

namespace tcompress::passes {
namespace {

float nearestStored(float value, DType type) {
    return type == DType::float16 ? toFloat(toHalf(value)) : value;
}

/// What one task leaves behind; tasks are summed in order.
struct TaskResult : RoundingOutcome {
    FewLevels fewLevels;  ///< memory that its groups share
};

/// Groups whose ranges are searched, and groups of few levels.
class Quantizer {
  public:
    Quantizer(std::span<const float> weights, QuantizedWeights& result, std::span<const float> importance)
        : weights_(weights),
          layout_(result.layout),
          rule_(result.rule),
          result_(result),
          blocks_(layout_.blocks()),
          gridRule_(rule_),
          search_(rule_),
          importance_(importance.begin(), importance.end()) {
        if (importance_.empty()) importance_.assign(static_cast<std::size_t>(layout_.axis), 1.0F);
    }

    /// The group's codes; its grid goes to the group's place. `first`: where on the axis the group begins.
    void quantizeGroup(const float* x, std::int64_t n, std::int64_t first, std::int64_t group,
                       std::uint8_t* codes, TaskResult& task) {
        const Extent extent = extentOf(x, n);
        task.finite = task.finite && extent.finite;
        if (!extent.finite) return;
        if (rule_.bits == 1) return quantizeBinary(x, n, first, group, codes, task);
        if (isTernary(rule_))
            return store(x, n, ternaryGrid(x, n, first, task.fewLevels), group, codes, task);
        const Shares shares = search_.best(x, importance_.data() + first, n, extent);
        store(x, n, coveringGrid(extent.min, extent.max, gridRule_, shares), group, codes, task);
    }

    RoundingOutcome run() {
        const std::int64_t width = layout_.block <= kShortBlock ? kWidth : kLanes;
        const std::int64_t tilesPerOuter = layout_.inner == 1 ? 1 : (layout_.inner + width - 1) / width;
        const std::int64_t tiles = layout_.outer * tilesPerOuter;
        const std::int64_t tileElements = layout_.axis * std::min(layout_.inner, width);
        const std::int64_t grain =
            std::max<std::int64_t>(1, kTaskElements / std::max<std::int64_t>(1, tileElements));
        std::vector<TaskResult> tasks(static_cast<std::size_t>((tiles + grain - 1) / grain));
        parallelRanges(tiles, grain, [&](std::int64_t begin, std::int64_t end) {
            TaskResult& task = tasks[static_cast<std::size_t>(begin / grain)];
            Scratch scratch;
            const float* x = layout_.inner == 1 ? rows(begin, end - begin) : nullptr;
            for (std::int64_t tile = begin; tile < end; ++tile) {
                const std::int64_t outer = tile / tilesPerOuter;
                const std::int64_t first = tile % tilesPerOuter * width;
                const std::int64_t last = std::min(layout_.inner, first + width);
                if (layout_.inner == 1)
                    row(outer, x + (tile - begin) * layout_.axis, task);
                else
                    columns(outer, first, last, scratch, task);
            }
        });
        RoundingOutcome total;
        for (const TaskResult& task : tasks) total.add(task);
        return total;
    }

  private:
    static constexpr std::int64_t kTaskElements = 1 << 16;
    /// Columns that a task takes through a block together: whole cache lines that lie side by side; fewer where copies of
    /// them would not stay in the cache.
    static constexpr std::int64_t kWidth = 64;
    static constexpr std::int64_t kShortBlock = 256;

    struct Scratch {
        std::vector<float> values;
        std::vector<std::uint8_t> codes;
    };

    void store(const float* x, std::int64_t n, const Grid& grid, std::int64_t group, std::uint8_t* codes,
               TaskResult& task) {
        const auto index = static_cast<std::size_t>(group);
        if (!result_.zeroPoints.empty())
            result_.zeroPoints[index] = static_cast<std::uint8_t>(grid.zeroPoint);
        result_.scales[index] = grid.scale;
        task.addGrid(encode(x, n, grid, codes), grid.scale);
    }

    void quantizeBinary(const float* x, std::int64_t n, std::int64_t first, std::int64_t group,
                        std::uint8_t* codes, TaskResult& task) {
        const auto index = static_cast<std::size_t>(group);
        const auto [values, importance] = groupSpans(x, n, first);
        BinaryGrid grid;
        if (rule_.symmetry == Symmetry::asymmetric)
            grid = task.fewLevels.binaryLevels(values, importance);
        else  // there is no code for 0: a group of zeros gets the smallest levels
            grid.scale = std::max(2 * task.fewLevels.binaryMagnitude(values, importance), kSmallestHalfScale);
        grid.scale = nearestStored(grid.scale, rule_.scaleType);
        grid.zero = nearestStored(grid.zero, rule_.scaleType);
        result_.scales[index] = grid.scale;
        if (!result_.realZeros.empty()) result_.realZeros[index] = grid.zero;
        task.addGrid(encodeBinary(x, n, grid, codes), grid.scale);
    }

    Grid ternaryGrid(const float* x, std::int64_t n, std::int64_t first, FewLevels& fewLevels) const {
        const auto [values, importance] = groupSpans(x, n, first);
        const float scale =
            nearestStored(fewLevels.ternaryMagnitude(values, importance), rule_.scaleType);
        if (!(scale > kSmallestMagnitude)) return {1, 0, 0, 0};
        return {scale, -1, 1, 0};
    }

    struct GroupSpans {
        std::span<const float> values, importance;
    };
    GroupSpans groupSpans(const float* x, std::int64_t n, std::int64_t first) const {
        const auto count = static_cast<std::size_t>(n);
        return {{x, count}, {importance_.data() + first, count}};
    }

    std::int64_t blockSize(std::int64_t block) const {
        return std::min(layout_.block, layout_.axis - block * layout_.block);
    }

    /// Rows from `first` on, of a mapped file from the file: tables are the largest weights, and need not
    /// stay.
    const float* rows(std::int64_t first, std::int64_t count) const {
        const auto part = weights_.subspan(static_cast<std::size_t>(first * layout_.axis),
                                           static_cast<std::size_t>(count * layout_.axis));
        float* buffer = kernels::threadScratch<Quantizer, float>(std::ssize(part));
        return readIfMapped(std::as_bytes(part), reinterpret_cast<std::byte*>(buffer)) ? buffer : part.data();
    }

    /// Groups that are contiguous in the tensor, of the row at `x`.
    void row(std::int64_t outer, const float* x, TaskResult& task) {
        for (std::int64_t block = 0; block < blocks_; ++block) {
            const std::int64_t first = block * layout_.block;
            quantizeGroup(x + first, blockSize(block), first, outer * blocks_ + block,
                          result_.codes.data() + outer * layout_.axis + first, task);
        }
    }

    /// Groups that run down columns: a few columns at a time are copied side by side.
    void columns(std::int64_t outer, std::int64_t begin, std::int64_t end, Scratch& scratch,
                 TaskResult& task) {
        const std::int64_t width = end - begin;
        // Columns are a cache line more than their size apart: powers of two would share cache sets.
        const std::int64_t stride = layout_.block + kLanes;
        scratch.values.resize(static_cast<std::size_t>(stride * width));
        scratch.codes.resize(static_cast<std::size_t>(stride * width));
        for (std::int64_t block = 0; block < blocks_; ++block) {
            const std::int64_t size = blockSize(block);
            const std::int64_t first = (outer * layout_.axis + block * layout_.block) * layout_.inner + begin;
            const float* source = weights_.data() + first;
            kernels::transposeMatrix(source, layout_.inner, size, width, scratch.values.data(), stride);
            for (std::int64_t j = 0; j < width; ++j)
                quantizeGroup(scratch.values.data() + j * stride, size, block * layout_.block,
                              (outer * blocks_ + block) * layout_.inner + begin + j,
                              scratch.codes.data() + j * stride, task);
            std::uint8_t* target = result_.codes.data() + first;
            for (std::int64_t i = 0; i < size; ++i)
                for (std::int64_t j = 0; j < width; ++j)
                    target[i * layout_.inner + j] = scratch.codes[static_cast<std::size_t>(j * stride + i)];
        }
    }

    std::span<const float> weights_;
    const kernels::QuantizationLayout& layout_;
    const QuantizationRule& rule_;
    QuantizedWeights& result_;
    std::int64_t blocks_;
    GridRule gridRule_;
    RangeSearch search_;
    std::vector<float> importance_;
};

}  // namespace

std::optional<QuantizedWeights> quantizeWeights(std::span<const float> weights,
                                                const kernels::QuantizationLayout& layout,
                                                QuantizationRule rule, std::span<const float> importance) {
    TCOMPRESS_CHECK(static_cast<std::int64_t>(weights.size()) == layout.size(),
                    "weights do not fill their layout");
    TCOMPRESS_CHECK(importance.empty() || static_cast<std::int64_t>(importance.size()) == layout.axis,
                    "the importance does not fit the axis");
    if (rule.scaleType == DType::uint8) {
        rule.scaleType = DType::float32;
        auto quantized = quantizeWeights(weights, layout, rule, importance);
        if (quantized) encodeScales(*quantized, weights);
        return quantized;
    }
    QuantizedWeights result;
    result.layout = layout;
    result.rule = rule;
    result.codes.resize(weights.size());
    const auto groups = static_cast<std::size_t>(layout.outer * layout.blocks() * layout.inner);
    result.scales.resize(groups);
    if (rule.symmetry == Symmetry::asymmetric) {
        if (rule.bits == 1)
            result.realZeros.resize(groups);
        else
            result.zeroPoints.resize(groups);
    }
    const bool isPlain = rule.bits > 1 && rule.range == RangeChoice::minmax;
    const RoundingOutcome total =
        isPlain ? roundWholeRanges(weights, result) : Quantizer(weights, result, importance).run();
    if (!total.finite) return std::nullopt;
    if (rule.scaleType == DType::float16 && !total.scalesFit) {
        rule.scaleType = DType::float32;
        return quantizeWeights(weights, layout, rule, importance);
    }
    if (total.energy.weight > 0) result.relativeError = std::sqrt(total.energy.error / total.energy.weight);
    return result;
}

}  // namespace tcompress::passes
