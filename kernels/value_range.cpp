// Smallest and largest values of a tensor and of its quantization groups. NaN is skipped: every comparison
// with it is false, with the new value on the left.

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/native/vector_math.h"
#include "kernels/quantize.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kTask = 65536;
constexpr std::int64_t kTaskColumns = 256;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr MinMax kNothing{kInfinity, -kInfinity};

TCOMPRESS_INLINE void widen(MinMax& range, float low, float high) {
    range.min = low < range.min ? low : range.min;
    range.max = high > range.max ? high : range.max;
}

TCOMPRESS_MULTIVERSION void widenByRun(const float* x, std::int64_t count, MinMax* range) {
    FloatVector low = broadcastVector(kInfinity);
    FloatVector high = broadcastVector(-kInfinity);
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        const FloatVector value = loadVector(x + i);
        low = value < low ? value : low;
        high = value > high ? value : high;
    }
    for (int lane = 0; lane < kLanes; ++lane) widen(*range, low[lane], high[lane]);
    for (; i < count; ++i) widen(*range, x[i], x[i]);
}

TCOMPRESS_MULTIVERSION void widenEach(const float* x, std::int64_t count, float* mins, float* maxs) {
    for (std::int64_t i = 0; i < count; ++i) {
        mins[i] = x[i] < mins[i] ? x[i] : mins[i];
        maxs[i] = x[i] > maxs[i] ? x[i] : maxs[i];
    }
}

MinMax finished(MinMax range) { return range.min > range.max ? MinMax{} : range; }

/// Scales that run along memory: rows of `columns` neighbouring groups; rowsOf group g0 = the rows that widen
/// them.
struct Rows {
    const float* x = nullptr;
    std::int64_t count = 0, stride = 0, columns = 0;
};

void widenColumns(const Rows& rows, std::int64_t begin, std::int64_t end, float* mins, float* maxs) {
    std::fill(mins + begin, mins + end, kInfinity);
    std::fill(maxs + begin, maxs + end, -kInfinity);
    for (std::int64_t row = 0; row < rows.count; ++row)
        widenEach(rows.x + row * rows.stride + begin, end - begin, mins + begin, maxs + begin);
    for (std::int64_t i = begin; i < end; ++i) {
        const MinMax range = finished({mins[i], maxs[i]});
        mins[i] = range.min;
        maxs[i] = range.max;
    }
}

}  // namespace

MinMax minMax(std::span<const float> x) {
    const auto size = static_cast<std::int64_t>(x.size());
    std::vector<MinMax> parts(static_cast<std::size_t>((size + kTask - 1) / kTask), kNothing);
    parallelRanges(size, kTask, [&](std::int64_t begin, std::int64_t end) {
        widenByRun(x.data() + begin, end - begin, &parts[static_cast<std::size_t>(begin / kTask)]);
    });
    MinMax range = kNothing;
    for (const MinMax& part : parts) widen(range, part.min, part.max);
    return finished(range);
}

void groupMinMax(const QuantizationLayout& layout, std::span<const float> x, std::span<float> mins,
                 std::span<float> maxs) {
    TCOMPRESS_CHECK(static_cast<std::int64_t>(x.size()) == layout.size() &&
                        static_cast<std::int64_t>(mins.size()) == layout.scaleCount() &&
                        mins.size() == maxs.size(),
                    "groupMinMax: sizes do not fit the layout");
    if (layout.granularity == Granularity::tensor) {
        const MinMax range = minMax(x);
        mins[0] = range.min;
        maxs[0] = range.max;
        return;
    }
    const bool blocked = layout.granularity == Granularity::block;
    if (blocked == (layout.inner > 1)) {
        // Neighbouring elements belong to neighbouring groups.
        const std::int64_t columns = blocked ? layout.inner : layout.axis;
        const std::int64_t strips = (columns + kTaskColumns - 1) / kTaskColumns;
        const std::int64_t stacks = blocked ? layout.outer * layout.blocks() : 1;
        parallelFor(stacks * strips, [&](std::int64_t task) {
            const std::int64_t stack = task / strips;
            const std::int64_t begin = task % strips * kTaskColumns;
            Rows rows{x.data(), layout.outer, columns, columns};
            if (blocked) {
                const std::int64_t first = stack % layout.blocks() * layout.block;
                rows.x += (stack / layout.blocks() * layout.axis + first) * layout.inner;
                rows.count = std::min(layout.block, layout.axis - first);
            }
            widenColumns(rows, begin, std::min(columns, begin + kTaskColumns), mins.data() + stack * columns,
                         maxs.data() + stack * columns);
        });
        return;
    }
    const std::int64_t groups = layout.scaleCount();
    const std::int64_t groupSize =
        std::max<std::int64_t>(1, layout.size() / std::max<std::int64_t>(1, groups));
    parallelRanges(groups, std::max<std::int64_t>(1, kTask / groupSize),
                   [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t group = begin; group < end; ++group) {
                           MinMax range = kNothing;
                           if (blocked) {
                               const std::int64_t first = group % layout.blocks() * layout.block;
                               widenByRun(x.data() + group / layout.blocks() * layout.axis + first,
                                          std::min(layout.block, layout.axis - first), &range);
                           } else {
                               for (std::int64_t outer = 0; outer < layout.outer; ++outer)
                                   widenByRun(x.data() + (outer * layout.axis + group) * layout.inner,
                                              layout.inner, &range);
                           }
                           range = finished(range);
                           mins[static_cast<std::size_t>(group)] = range.min;
                           maxs[static_cast<std::size_t>(group)] = range.max;
                       }
                   });
}

void groupAbsMax(const QuantizationLayout& layout, std::span<const float> x, std::span<float> maxs) {
    std::vector<float> mins(maxs.size());
    groupMinMax(layout, x, mins, maxs);
    for (std::size_t i = 0; i < mins.size(); ++i) maxs[i] = std::max(maxs[i], -mins[i]);
}

}  // namespace tcompress::kernels
