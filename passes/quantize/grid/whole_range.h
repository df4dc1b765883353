#pragma once
// Rounding in groups whose grids cover their whole ranges, at the speed of memory: weights are read in the
// order in which they lie, by rows, whether groups run along rows or down columns; from the file where they
// lie in one that is mapped. They are read once where a group's weights stay in the cache of whoever finds
// its range, twice otherwise.

#include <span>

#include "passes/quantize/grid/group_grid.h"
#include "passes/quantize/grid/quantized_weights.h"

namespace tcompress::passes {

/// What rounding leaves behind beside codes and grids; parts are added up in a fixed order.
struct RoundingOutcome {
    Energy energy;
    bool finite = true;     ///< else the codes are not complete
    bool scalesFit = true;  ///< into float16

    void add(const RoundingOutcome& part);
    void addGrid(const Energy& lost, float scale);
};

/// Fills codes, scales and zero points, which have their sizes, for two bits and more.
RoundingOutcome roundWholeRanges(std::span<const float> weights, QuantizedWeights& result);

}  // namespace tcompress::passes
