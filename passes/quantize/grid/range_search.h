#pragma once
// The cut of a group's range with the smallest squared error, of a fixed grid of cuts: all of them are looked at while
// the group is in the cache, sixteen side by side.
//
// Source: Choukroun et al. 2019, "Low-bit Quantization of Neural Networks for Efficient Inference".

#include <cstdint>
#include <vector>

#include "passes/quantize/grid/group_grid.h"

namespace tcompress::passes {

class RangeSearch {
  public:
    explicit RangeSearch(const QuantizationRule& rule);
    /// `importance`, one a weight and not negative, multiplies the squared errors. Of equals the widest range.
    Shares best(const float* x, const float* importance, std::int64_t n, const Extent& extent) const;

  private:
    QuantizationRule rule_;
    std::vector<float> low_, high_;  ///< shares to try, a multiple of kLanes
};

}  // namespace tcompress::passes
