#include "kernels/histogram.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <vector>

#include "kernels/multiversion.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kTask = 1 << 18;
constexpr std::int64_t kBlock = 512;

/// cells[i] = floor(x[i] · scale) − first. The product is exact because the scale is a power of two, unless
/// it is too small for a float: then it is rounded towards 0, and the sign of x tells the cell.
TCOMPRESS_MULTIVERSION void findCells(const float* x, std::int64_t count, float scale, std::int32_t first,
                                      std::int32_t* cells) {
    for (std::int64_t i = 0; i < count; ++i) {
        const float scaled = x[i] * scale;
        const auto truncated = static_cast<std::int32_t>(scaled);
        const std::int32_t isRoundedUp = static_cast<float>(truncated) > scaled ? 1 : 0;
        const std::int32_t isVanished = (truncated == 0 ? 1 : 0) & (x[i] < 0.0F ? 1 : 0);
        cells[i] = truncated - (isRoundedUp | isVanished) - first;
    }
}

/// Two tables in turns: neighbouring values often fall into one cell, and a counter cannot be raised again
/// before it has been written.
void countBlock(const std::int32_t* cells, std::int64_t count, std::uint32_t* even, std::uint32_t* odd) {
    std::int64_t i = 0;
    for (; i + 2 <= count; i += 2) {
        ++even[cells[i]];
        ++odd[cells[i + 1]];
    }
    if (i < count) ++even[cells[i]];
}

}  // namespace

void countCells(const CellCount& params) {
    const float scale = std::ldexp(1.0F, -params.exponent);
    const std::size_t size = params.counts.size();
    std::mutex mutex;
    parallelRanges(static_cast<std::int64_t>(params.x.size()), kTask,
                   [&](std::int64_t begin, std::int64_t end) {
                       std::vector<std::uint32_t> tables(2 * size);
                       std::int32_t cells[kBlock];
                       for (std::int64_t i = begin; i < end; i += kBlock) {
                           const std::int64_t count = std::min(kBlock, end - i);
                           findCells(params.x.data() + i, count, scale, params.first, cells);
                           countBlock(cells, count, tables.data(), tables.data() + size);
                       }
                       // Whole numbers: the order in which tasks get here does not matter.
                       const std::lock_guard lock(mutex);
                       for (std::size_t cell = 0; cell < size; ++cell)
                           params.counts[cell] += std::uint64_t{tables[cell]} + tables[size + cell];
                   });
}

}  // namespace tcompress::kernels
