#pragma once
// Counting values by cells of equal width.

#include <cstdint>
#include <span>

namespace tcompress::kernels {

/// counts[floor(x / width) − first] += 1 for each x, where width is a power of two, given as its exponent.
/// Every x must fall into a cell, |floor(x / width)| must be below 2^30. The same counts for any number of
/// threads.
struct CellCount {
    std::span<const float> x;
    std::int32_t exponent = 0;  ///< width = 2^exponent
    std::int32_t first = 0;     ///< the cell that counts[0] is
    std::span<std::uint64_t> counts;
};
void countCells(const CellCount& params);

}  // namespace tcompress::kernels
