#include "passes/quantize/group_quantizer.h"

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "kernels/multiversion.h"
#include "lib/support/check.h"
#include "lib/support/mapped_file.h"
#include "lib/support/parallel.h"
#include "passes/quantize/scale_codes.h"
#include "passes/quantize/few_levels.h"

namespace tcompress::passes {
namespace {

/// Loops run over sixteen independent lanes that the compiler keeps in vector registers of whatever width the
/// processor has; the order of additions does not depend on that width.
constexpr std::int64_t kLanes = 16;

float sumOf(const float* lanes) {
    float sum = 0;
    for (std::int64_t lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
    return sum;
}

/// Adding and subtracting it rounds half to even, for |x| < 2²².
constexpr float kRounder = 12582912.0F;

TCOMPRESS_INLINE float roundHalfEven(float x) { return (x + kRounder) - kRounder; }

TCOMPRESS_INLINE float clamped(float x, float low, float high) {
    const float raised = x < low ? low : x;
    return raised > high ? high : raised;
}

struct Extent {
    float min = 0;
    float max = 0;
    bool finite = true;
};

/// Of a group and zero.
TCOMPRESS_MULTIVERSION Extent extentOf(const float* x, std::int64_t n) {
    float low[kLanes] = {}, high[kLanes] = {}, outside[kLanes] = {};
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            const float value = x[i + lane];
            low[lane] = value < low[lane] ? value : low[lane];
            high[lane] = value > high[lane] ? value : high[lane];
            outside[lane] += value * 0.0F;  // NaN for infinities and NaN
        }
    }
    for (; i < n; ++i) {
        low[0] = x[i] < low[0] ? x[i] : low[0];
        high[0] = x[i] > high[0] ? x[i] : high[0];
        outside[0] += x[i] * 0.0F;
    }
    return {*std::min_element(low, low + kLanes), *std::max_element(high, high + kLanes),
            sumOf(outside) == 0.0F};
}

/// One way to place a group's codes: q = clamp(round(x / scale), low, high) is what is multiplied by the
/// scale; the stored code is q + zeroPoint.
struct Grid {
    float scale = 1;
    float low = 0;
    float high = 0;
    float zeroPoint = 0;
};

struct Energy {
    double error = 0;
    double weight = 0;
};

/// Codes of a group, and what rounding lost.
TCOMPRESS_MULTIVERSION Energy encode(const float* x, std::int64_t n, const Grid& grid, std::uint8_t* codes) {
    const float scale = grid.scale, low = grid.low, high = grid.high, zeroPoint = grid.zeroPoint;
    float errors[kLanes] = {}, weights[kLanes] = {};
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        std::int32_t rounded[kLanes];
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            const float value = x[i + lane];
            const float q = roundHalfEven(clamped(value / scale, low, high));
            const float error = q * scale - value;
            errors[lane] += error * error;
            weights[lane] += value * value;
            rounded[lane] = static_cast<std::int32_t>(q + zeroPoint);
        }
        for (std::int64_t lane = 0; lane < kLanes; ++lane)
            codes[i + lane] = static_cast<std::uint8_t>(rounded[lane]);
    }
    for (; i < n; ++i) {
        const float q = roundHalfEven(clamped(x[i] / scale, low, high));
        const float error = q * scale - x[i];
        errors[0] += error * error;
        weights[0] += x[i] * x[i];
        codes[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(q + zeroPoint));
    }
    return {sumOf(errors), sumOf(weights)};
}

/// Grids that are tried side by side, one a lane.
struct Candidates {
    float scale[kLanes];
    float inverse[kLanes];
    float low[kLanes];
    float high[kLanes];
};

/// Sixteen columns of a row-major matrix at a time, a lane each: groups that run down columns need not be copied
/// side by side.
struct ColumnExtents {
    float low[kLanes] = {}, high[kLanes] = {}, outside[kLanes] = {};
};

TCOMPRESS_MULTIVERSION void columnExtents(const float* x, std::int64_t n, std::int64_t stride,
                                          ColumnExtents& extents) {
    float low[kLanes] = {}, high[kLanes] = {}, outside[kLanes] = {};
    for (std::int64_t i = 0; i < n; ++i) {
        const float* row = x + i * stride;
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            const float value = row[lane];
            low[lane] = value < low[lane] ? value : low[lane];
            high[lane] = value > high[lane] ? value : high[lane];
            outside[lane] += value * 0.0F;  // NaN for infinities and NaN
        }
    }
    std::copy(low, low + kLanes, extents.low);
    std::copy(high, high + kLanes, extents.high);
    std::copy(outside, outside + kLanes, extents.outside);
}

struct ColumnGrids {
    float scale[kLanes], low[kLanes], high[kLanes], zeroPoint[kLanes];
};

TCOMPRESS_MULTIVERSION Energy encodeColumns(const float* x, std::int64_t n, std::int64_t stride,
                                            const ColumnGrids& grids, std::uint8_t* codes) {
    float errors[kLanes] = {}, weights[kLanes] = {};
    for (std::int64_t i = 0; i < n; ++i) {
        const float* row = x + i * stride;
        std::uint8_t* target = codes + i * stride;
        std::int32_t rounded[kLanes];
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            const float value = row[lane], scale = grids.scale[lane];
            const float q = roundHalfEven(clamped(value / scale, grids.low[lane], grids.high[lane]));
            const float error = q * scale - value;
            errors[lane] += error * error;
            weights[lane] += value * value;
            rounded[lane] = static_cast<std::int32_t>(q + grids.zeroPoint[lane]);
        }
        for (std::int64_t lane = 0; lane < kLanes; ++lane)
            target[lane] = static_cast<std::uint8_t>(rounded[lane]);
    }
    return {sumOf(errors), sumOf(weights)};
}

/// Codes of a group of two levels, the nearer one each, and what that lost.
Energy encodeBinary(const float* x, std::int64_t n, const BinaryGrid& grid, std::uint8_t* codes) {
    const float low = (0.0F - grid.zero) * grid.scale, high = (1.0F - grid.zero) * grid.scale;
    Energy energy;
    for (std::int64_t i = 0; i < n; ++i) {
        const bool isHigh = std::fabs(x[i] - high) < std::fabs(x[i] - low);
        const double error = static_cast<double>(isHigh ? high : low) - x[i];
        codes[i] = isHigh ? 1 : 0;
        energy.error += error * error;
        energy.weight += static_cast<double>(x[i]) * x[i];
    }
    return energy;
}

float nearestStored(float value, DType type) {
    return type == DType::float16 ? toFloat(toHalf(value)) : value;
}

/// Squared error of the group on each grid, times what each place counts.
TCOMPRESS_MULTIVERSION void squaredErrors(const float* x, const float* importance, std::int64_t n,
                                          const Candidates& grids, float* errors) {
    float sums[kLanes] = {};
    for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            const float q =
                roundHalfEven(clamped(x[i] * grids.inverse[lane], grids.low[lane], grids.high[lane]));
            const float error = q * grids.scale[lane] - x[i];
            sums[lane] += error * error * importance[i];
        }
    }
    std::copy(sums, sums + kLanes, errors);
}

/// Magnitudes below this give scale 1 and zero codes: a scale made from them would leave the normal numbers.
constexpr float kSmallestMagnitude = 1e-30F;
/// A float16 scale below this has fewer than 4 significant bits left.
constexpr float kSmallestHalfScale = 0x1p-20F;
constexpr float kLargestHalfScale = 65504.0F;

/// What is left of a group's range on either side.
struct Shares {
    float low = 1;
    float high = 1;
};

/// The grid that covers the given shares of the group's extent.
Grid gridFor(const Extent& extent, const QuantizationRule& rule, Shares shares) {
    const auto codes = static_cast<float>(1 << rule.bits);
    const CodeRange range = codeRange(rule);
    Grid grid;
    if (rule.symmetry == Symmetry::asymmetric) {
        const float low = extent.min * shares.low, high = extent.max * shares.high;
        grid.scale = storedScale(high / (codes - 1) - low / (codes - 1), rule.scaleType);
        if (!(std::fabs(grid.scale) > kSmallestMagnitude)) return {1, 0, 0, 0};
        grid.zeroPoint = clamped(roundHalfEven(clamped(-low / grid.scale, 0.0F, codes)), 0.0F, codes - 1);
        grid.low = -grid.zeroPoint;
        grid.high = codes - 1 - grid.zeroPoint;
        return grid;
    }
    const float magnitude = std::max(-extent.min, extent.max) * shares.high;
    grid.low = static_cast<float>(range.low);
    grid.high = static_cast<float>(range.high);
    if (rule.symmetry == Symmetry::balanced) {
        grid.scale = magnitude / grid.high;
    } else {
        grid.scale = (extent.max > -extent.min ? -magnitude : magnitude) / (codes / 2);
    }
    grid.scale = storedScale(grid.scale, rule.scaleType);
    if (!(std::fabs(grid.scale) > kSmallestMagnitude)) return {1, 0, 0, 0};
    return grid;
}

/// Shares that the mse choice tries, the whole range first (ties go to the first). On a full-range grid
/// shares above 1 bring in the side that has one code less.
std::vector<Shares> sharesToTry(Symmetry symmetry) {
    std::vector<Shares> shares{{1, 1}};
    if (symmetry == Symmetry::asymmetric) {
        for (int low = 0; low < 8; ++low)
            for (int high = 0; high < 8; ++high)
                if (low + high > 0)
                    shares.push_back(
                        {1 - 0.05F * static_cast<float>(low), 1 - 0.05F * static_cast<float>(high)});
        return shares;
    }
    const float top = symmetry == Symmetry::balanced ? 1.0F : 1.2F;
    constexpr int kSteps = 31;
    constexpr float kBottom = 0.5F;
    for (int step = 0; step < kSteps; ++step) {
        const float share = kBottom + (top - kBottom) * static_cast<float>(step) / kSteps;
        shares.push_back({share, share});
    }
    return shares;
}

Shares bestShares(const float* x, const float* importance, std::int64_t n, const Extent& extent,
                  QuantizationRule rule, const std::vector<Shares>& tried) {
    rule.scaleType = DType::float32;  // rounding the scale does not move the best cut
    Shares best;
    float bestError = FLT_MAX;
    for (std::size_t first = 0; first < tried.size(); first += kLanes) {
        Candidates candidates;
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            const Shares& shares = tried[std::min(first + lane, tried.size() - 1)];
            const Grid grid = gridFor(extent, rule, shares);
            candidates.scale[lane] = grid.scale;
            candidates.inverse[lane] = 1.0F / grid.scale;
            candidates.low[lane] = grid.low;
            candidates.high[lane] = grid.high;
        }
        float errors[kLanes];
        squaredErrors(x, importance, n, candidates, errors);
        for (std::size_t lane = 0; lane < kLanes && first + lane < tried.size(); ++lane) {
            if (errors[lane] >= bestError) continue;
            best = tried[first + lane];
            bestError = errors[lane];
        }
    }
    return best;
}

/// What one task leaves behind; tasks are summed in order.
struct TaskResult {
    Energy energy;
    bool finite = true;
    bool scalesFit = true;
    FewLevels fewLevels;  ///< memory that its groups share
};

class Quantizer {
  public:
    Quantizer(std::span<const float> weights, QuantizedWeights& result, std::span<const float> importance)
        : weights_(weights),
          layout_(result.layout),
          rule_(result.rule),
          result_(result),
          blocks_(layout_.blocks()),
          tried_(rule_.range == RangeChoice::mse ? sharesToTry(rule_.symmetry) : std::vector<Shares>{}),
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
        if (isTernary(rule_) && rule_.range == RangeChoice::mse)
            return store(x, n, ternaryGrid(x, n, first, task.fewLevels), group, codes, task);
        const Shares shares =
            tried_.empty() ? Shares{} : bestShares(x, importance_.data() + first, n, extent, rule_, tried_);
        store(x, n, gridFor(extent, rule_, shares), group, codes, task);
    }

    TaskResult run() {
        const bool isPlain = rule_.bits > 1 && tried_.empty();
        const std::int64_t width = isPlain ? kPlainWidth : kLanes;
        const std::int64_t tilesPerOuter = layout_.inner == 1 ? 1 : (layout_.inner + width - 1) / width;
        const std::int64_t tiles = layout_.outer * tilesPerOuter;
        const std::int64_t tileElements = layout_.axis * std::min(layout_.inner, width);
        const std::int64_t grain =
            std::max<std::int64_t>(1, kTaskElements / std::max<std::int64_t>(1, tileElements));
        std::vector<TaskResult> tasks(static_cast<std::size_t>((tiles + grain - 1) / grain));
        parallelRanges(tiles, grain, [&](std::int64_t begin, std::int64_t end) {
            TaskResult& task = tasks[static_cast<std::size_t>(begin / grain)];
            Scratch scratch;
            for (std::int64_t tile = begin; tile < end; ++tile) {
                const std::int64_t outer = tile / tilesPerOuter;
                const std::int64_t first = tile % tilesPerOuter * width;
                const std::int64_t last = std::min(layout_.inner, first + width);
                if (layout_.inner == 1)
                    row(outer, task);
                else if (isPlain && (last - first) % kLanes == 0)
                    plainColumns(outer, first, last, task);
                else
                    columns(outer, first, last, scratch, task);
            }
            // Tables are the largest weights: what is read of a mapped one need not stay.
            if (layout_.inner == 1)
                releaseIfMapped(std::as_bytes(
                    weights_.subspan(static_cast<std::size_t>(begin * layout_.axis),
                                     static_cast<std::size_t>((end - begin) * layout_.axis))));
        });
        TaskResult total;
        for (const TaskResult& task : tasks) {
            total.energy.error += task.energy.error;
            total.energy.weight += task.energy.weight;
            total.finite = total.finite && task.finite;
            total.scalesFit = total.scalesFit && task.scalesFit;
        }
        return total;
    }

  private:
    static constexpr std::int64_t kTaskElements = 1 << 16;
    /// Columns that a task takes through a block together: whole cache lines that lie side by side.
    static constexpr std::int64_t kPlainWidth = 64;

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
        account(encode(x, n, grid, codes), grid.scale, task);
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
        account(encodeBinary(x, n, grid, codes), grid.scale, task);
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

    static void account(const Energy& energy, float scale, TaskResult& task) {
        task.energy.error += energy.error;
        task.energy.weight += energy.weight;
        const float magnitude = std::fabs(scale);
        task.scalesFit = task.scalesFit && magnitude >= kSmallestHalfScale && magnitude <= kLargestHalfScale;
    }

    std::int64_t blockSize(std::int64_t block) const {
        return std::min(layout_.block, layout_.axis - block * layout_.block);
    }

    /// Groups that are contiguous in the tensor.
    void row(std::int64_t outer, TaskResult& task) {
        for (std::int64_t block = 0; block < blocks_; ++block) {
            const std::int64_t first = outer * layout_.axis + block * layout_.block;
            quantizeGroup(weights_.data() + first, blockSize(block), block * layout_.block,
                          outer * blocks_ + block, result_.codes.data() + first, task);
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
            for (std::int64_t i = 0; i < size; ++i)
                for (std::int64_t j = 0; j < width; ++j)
                    scratch.values[static_cast<std::size_t>(j * stride + i)] = source[i * layout_.inner + j];
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

    /// Whole ranges of groups that run down columns [begin, end), a multiple of kLanes.
    void plainColumns(std::int64_t outer, std::int64_t begin, std::int64_t end, TaskResult& task) {
        ColumnExtents extents;
        ColumnGrids grids;
        for (std::int64_t block = 0; block < blocks_; ++block) {
            const std::int64_t size = blockSize(block);
            for (std::int64_t column = begin; column < end; column += kLanes) {
                const std::int64_t first =
                    (outer * layout_.axis + block * layout_.block) * layout_.inner + column;
                columnExtents(weights_.data() + first, size, layout_.inner, extents);
                const auto group =
                    static_cast<std::size_t>((outer * blocks_ + block) * layout_.inner + column);
                task.finite = task.finite && sumOf(extents.outside) == 0.0F;
                if (!task.finite) return;
                for (std::size_t lane = 0; lane < kLanes; ++lane) {
                    const Grid grid =
                        gridFor({extents.low[lane], extents.high[lane], true}, rule_, Shares{});
                    grids.scale[lane] = grid.scale;
                    grids.low[lane] = grid.low;
                    grids.high[lane] = grid.high;
                    grids.zeroPoint[lane] = grid.zeroPoint;
                    result_.scales[group + lane] = grid.scale;
                    if (!result_.zeroPoints.empty())
                        result_.zeroPoints[group + lane] = static_cast<std::uint8_t>(grid.zeroPoint);
                    account({}, grid.scale, task);
                }
                const Energy energy = encodeColumns(weights_.data() + first, size, layout_.inner, grids,
                                                    result_.codes.data() + first);
                task.energy.error += energy.error;
                task.energy.weight += energy.weight;
            }
        }
    }

    std::span<const float> weights_;
    const kernels::QuantizationLayout& layout_;
    const QuantizationRule& rule_;
    QuantizedWeights& result_;
    std::int64_t blocks_;
    std::vector<Shares> tried_;  ///< empty: the whole range
    std::vector<float> importance_;
};

}  // namespace

float storedScale(float scale, DType type) {
    if (type != DType::float16) return scale;
    Half half = toHalf(scale);
    if (std::fabs(toFloat(half)) < std::fabs(scale)) ++half.bits;
    return toFloat(half);
}

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
    const TaskResult total = Quantizer(weights, result, importance).run();
    if (!total.finite) return std::nullopt;
    if (rule.scaleType == DType::float16 && !total.scalesFit) {
        rule.scaleType = DType::float32;
        return quantizeWeights(weights, layout, rule, importance);
    }
    if (total.energy.weight > 0) result.relativeError = std::sqrt(total.energy.error / total.energy.weight);
    return result;
}

std::vector<float> dequantizeWeights(const QuantizedWeights& weights) {
    const kernels::QuantizationLayout& layout = weights.layout;
    std::vector<float> values(weights.codes.size());
    for (std::int64_t outer = 0; outer < layout.outer; ++outer) {
        for (std::int64_t axis = 0; axis < layout.axis; ++axis) {
            for (std::int64_t inner = 0; inner < layout.inner; ++inner) {
                const auto i = static_cast<std::size_t>((outer * layout.axis + axis) * layout.inner + inner);
                const auto group = static_cast<std::size_t>(
                    (outer * layout.blocks() + axis / layout.block) * layout.inner + inner);
                const int code = weights.zeroPoints.empty() ? static_cast<std::int8_t>(weights.codes[i])
                                                            : weights.codes[i];
                values[i] =
                    (static_cast<float>(code) - weights.zeroOf(group)) * weights.scales[group];
            }
        }
    }
    return values;
}

QuantizedWeights placeholderWeights(const kernels::QuantizationLayout& layout, const QuantizationRule& rule) {
    const auto groups = static_cast<std::size_t>(layout.outer * layout.blocks() * layout.inner);
    QuantizedWeights weights;
    weights.layout = layout;
    weights.rule = rule;
    weights.codes.resize(static_cast<std::size_t>(layout.size()));
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
    const std::vector<float> after = dequantizeWeights(quantized);
    Energy energy;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const double error = static_cast<double>(after[i]) - weights[i];
        energy.error += error * error;
        energy.weight += static_cast<double>(weights[i]) * weights[i];
    }
    quantized.relativeError = energy.weight > 0 ? std::sqrt(energy.error / energy.weight) : 0;
}

}  // namespace tcompress::passes
