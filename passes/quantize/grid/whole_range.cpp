#include "passes/quantize/grid/whole_range.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "lib/support/mapped_file.h"
#include "lib/support/parallel.h"

namespace tcompress::passes {
namespace {

/// Weights that a task takes at a time: half a mebibyte, which the cache holds until they are rounded.
constexpr std::int64_t kTaskWeights = std::int64_t{1} << 17;
/// Columns that a task takes side by side: enough for reading to go on, few enough for their grids to stay
/// near.
constexpr std::int64_t kMostColumns = 4096;
constexpr std::int64_t kFewestColumns = 256;
/// Rows whose errors are added up in float32.
constexpr std::int64_t kRowsSummed = 8;

/// Ranges and grids of neighbouring groups.
struct Grids {
    explicit Grids(std::int64_t count)
        : min(static_cast<std::size_t>(count)),
          max(min.size()),
          scale(min.size()),
          low(min.size()),
          high(min.size()),
          zeroPoint(min.size()) {}
    std::vector<float> min, max, scale, low, high, zeroPoint;

    Grid at(std::int64_t i) const {
        const auto place = static_cast<std::size_t>(i);
        return {scale[place], low[place], high[place], zeroPoint[place]};
    }
};

class WholeRanges {
  public:
    WholeRanges(std::span<const float> weights, QuantizedWeights& result)
        : weights_(weights),
          layout_(result.layout),
          rule_(result.rule),
          result_(result),
          blocks_(layout_.blocks()) {}

    RoundingOutcome run() {
        if (layout_.inner == 1) return alongRows();
        const std::int64_t columns = kTaskWeights / layout_.block / kLanes * kLanes;
        if (columns >= std::min(layout_.inner, kFewestColumns))
            return downColumns(std::min({columns, layout_.inner, kMostColumns}));
        RoundingOutcome total;
        for (std::int64_t outer = 0; outer < layout_.outer; ++outer)
            for (std::int64_t block = 0; block < blocks_; ++block)
                for (std::int64_t column = 0; column < layout_.inner && total.finite; column += kMostColumns)
                    total.add(
                        longColumns(outer, block, column, std::min(kMostColumns, layout_.inner - column)));
        return total;
    }

  private:
    /// Weights of `rows` rows of `columns`, from place `first` on; valid until this thread asks again.
    Rows read(std::int64_t first, std::int64_t rows, std::int64_t columns) const {
        const auto part = [&](std::int64_t row, std::int64_t count) {
            return std::as_bytes(weights_.subspan(static_cast<std::size_t>(first + row * layout_.inner),
                                                  static_cast<std::size_t>(count)));
        };
        float* buffer = kernels::threadScratch<WholeRanges, float>(rows * columns);
        const bool together = columns == layout_.inner || layout_.inner == 1;
        auto* bytes = reinterpret_cast<std::byte*>(buffer);
        if (!readIfMapped(part(0, together ? rows * columns : columns), bytes))
            return {weights_.data() + first, layout_.inner};
        for (std::int64_t row = 1; row < rows && !together; ++row)
            readIfMapped(part(row, columns), reinterpret_cast<std::byte*>(buffer + row * columns));
        return {buffer, columns};
    }

    std::int64_t blockSize(std::int64_t block) const {
        return std::min(layout_.block, layout_.axis - block * layout_.block);
    }
    std::int64_t firstGroup(std::int64_t outer, std::int64_t block, std::int64_t column) const {
        return (outer * blocks_ + block) * layout_.inner + column;
    }
    std::int64_t firstWeight(std::int64_t outer, std::int64_t row, std::int64_t column) const {
        return (outer * layout_.axis + row) * layout_.inner + column;
    }

    /// Grids of the ranges that were found, which go to their places.
    void makeGrids(Grids& grids, std::int64_t count, std::int64_t firstGroup, RoundingOutcome& outcome) {
        coverRanges(grids.min.data(), grids.max.data(), count, rule_, grids.scale.data(), grids.low.data(),
                    grids.high.data(), grids.zeroPoint.data());
        for (std::int64_t i = 0; i < count; ++i)
            outcome.addGrid({}, grids.scale[static_cast<std::size_t>(i)]);
        std::copy_n(grids.scale.begin(), count, result_.scales.begin() + firstGroup);
        if (result_.zeroPoints.empty()) return;
        std::transform(grids.zeroPoint.begin(), grids.zeroPoint.begin() + count,
                       result_.zeroPoints.begin() + firstGroup,
                       [](float zeroPoint) { return static_cast<std::uint8_t>(zeroPoint); });
    }

    Energy encodeColumns(Rows x, std::int64_t rows, std::int64_t columns, const Grids& grids,
                         std::int64_t first) {
        Energy energy;
        for (std::int64_t row = 0; row < rows; row += kRowsSummed) {
            const Energy part =
                encodeRows({x.first + row * x.stride, x.stride}, std::min(kRowsSummed, rows - row), columns,
                           grids.scale.data(), grids.low.data(), grids.high.data(), grids.zeroPoint.data(),
                           result_.codes.data() + first + row * layout_.inner, layout_.inner);
            energy.error += part.error;
            energy.weight += part.weight;
        }
        return energy;
    }

    template <class Round>
    static RoundingOutcome overTasks(std::int64_t units, std::int64_t grain, Round round) {
        std::vector<RoundingOutcome> tasks(static_cast<std::size_t>((units + grain - 1) / grain));
        parallelRanges(units, grain, [&](std::int64_t begin, std::int64_t end) {
            round(begin, end, tasks[static_cast<std::size_t>(begin / grain)]);
        });
        RoundingOutcome total;
        for (const RoundingOutcome& task : tasks) total.add(task);
        return total;
    }

    /// Groups that are contiguous in the tensor.
    RoundingOutcome alongRows() {
        const std::int64_t grain =
            std::max<std::int64_t>(1, kTaskWeights / std::max<std::int64_t>(1, layout_.axis));
        return overTasks(
            layout_.outer, grain, [&](std::int64_t begin, std::int64_t end, RoundingOutcome& task) {
                const float* x = read(begin * layout_.axis, end - begin, layout_.axis).first;
                Grids grids(blocks_);
                for (std::int64_t row = begin; row < end; ++row, x += layout_.axis) {
                    for (std::int64_t block = 0; block < blocks_; ++block) {
                        const Extent extent = extentOf(x + block * layout_.block, blockSize(block));
                        task.finite = task.finite && extent.finite;
                        grids.min[static_cast<std::size_t>(block)] = extent.min;
                        grids.max[static_cast<std::size_t>(block)] = extent.max;
                    }
                    if (!task.finite) return;
                    makeGrids(grids, blocks_, row * blocks_, task);
                    std::uint8_t* codes = result_.codes.data() + row * layout_.axis;
                    for (std::int64_t block = 0; block < blocks_; ++block) {
                        const std::int64_t first = block * layout_.block;
                        const Energy lost =
                            encode(x + first, blockSize(block), grids.at(block), codes + first);
                        task.energy.error += lost.error;
                        task.energy.weight += lost.weight;
                    }
                }
            });
    }

    /// Groups that run down columns, `columns` side by side, whose weights a task holds.
    RoundingOutcome downColumns(std::int64_t columns) {
        const std::int64_t across = (layout_.inner + columns - 1) / columns;
        const std::int64_t grain = std::max<std::int64_t>(1, kTaskWeights / (layout_.block * columns));
        return overTasks(
            layout_.outer * blocks_ * across, grain,
            [&](std::int64_t begin, std::int64_t end, RoundingOutcome& task) {
                Grids grids(columns);
                for (std::int64_t unit = begin; unit < end && task.finite; ++unit) {
                    const std::int64_t outer = unit / across / blocks_, block = unit / across % blocks_;
                    const std::int64_t column = unit % across * columns, rows = blockSize(block);
                    const std::int64_t width = std::min(columns, layout_.inner - column);
                    const std::int64_t first = firstWeight(outer, block * layout_.block, column);
                    const Rows weights = read(first, rows, width);
                    std::ranges::fill(grids.min, 0.0F);
                    std::ranges::fill(grids.max, 0.0F);
                    task.finite = widen(weights, rows, width, grids.min.data(), grids.max.data());
                    if (!task.finite) return;
                    makeGrids(grids, width, firstGroup(outer, block, column), task);
                    const Energy lost = encodeColumns(weights, rows, width, grids, first);
                    task.energy.error += lost.error;
                    task.energy.weight += lost.weight;
                }
            });
    }

    /// One block of columns that are too long for a task: ranges first, of parts of the rows, then the codes.
    RoundingOutcome longColumns(std::int64_t outer, std::int64_t block, std::int64_t column,
                                std::int64_t columns) {
        const std::int64_t rows = blockSize(block), begin = block * layout_.block;
        const std::int64_t atOnce = std::max<std::int64_t>(1, kTaskWeights / columns);
        const auto parts = static_cast<std::size_t>((rows + atOnce - 1) / atOnce);
        std::vector<float> min(parts * static_cast<std::size_t>(columns)), max(min.size());
        RoundingOutcome total =
            overTasks(rows, atOnce, [&](std::int64_t from, std::int64_t to, RoundingOutcome& task) {
                const std::int64_t place = from / atOnce * columns;
                task.finite = widen(read(firstWeight(outer, begin + from, column), to - from, columns),
                                    to - from, columns, min.data() + place, max.data() + place);
            });
        if (!total.finite) return total;
        Grids grids(columns);
        const auto width = static_cast<std::size_t>(columns);
        for (std::size_t part = 0; part < parts; ++part)
            for (std::size_t i = 0; i < width; ++i) {
                grids.min[i] = std::min(grids.min[i], min[part * width + i]);
                grids.max[i] = std::max(grids.max[i], max[part * width + i]);
            }
        makeGrids(grids, columns, firstGroup(outer, block, column), total);
        total.add(overTasks(rows, atOnce, [&](std::int64_t from, std::int64_t to, RoundingOutcome& task) {
            const std::int64_t first = firstWeight(outer, begin + from, column);
            task.energy = encodeColumns(read(first, to - from, columns), to - from, columns, grids, first);
        }));
        return total;
    }

    static bool widen(Rows x, std::int64_t rows, std::int64_t columns, float* min, float* max) {
        bool finite = true;
        for (std::int64_t row = 0; row < rows && finite; ++row)
            finite = widenByRow(x.first + row * x.stride, columns, min, max);
        return finite;
    }

    std::span<const float> weights_;
    const kernels::QuantizationLayout& layout_;
    GridRule rule_;
    QuantizedWeights& result_;
    std::int64_t blocks_;
};

}  // namespace

void RoundingOutcome::add(const RoundingOutcome& part) {
    energy.error += part.energy.error;
    energy.weight += part.energy.weight;
    finite = finite && part.finite;
    scalesFit = scalesFit && part.scalesFit;
}

void RoundingOutcome::addGrid(const Energy& lost, float scale) {
    energy.error += lost.error;
    energy.weight += lost.weight;
    const float magnitude = std::fabs(scale);
    scalesFit = scalesFit && magnitude >= kSmallestHalfScale && magnitude <= kLargestHalf;
}

RoundingOutcome roundWholeRanges(std::span<const float> weights, QuantizedWeights& result) {
    return weights.empty() ? RoundingOutcome{} : WholeRanges(weights, result).run();
}

}  // namespace tcompress::passes
