#pragma once
// A tensor of one batch as the rows that count, in float32.

#include <vector>

#include "lib/calibration/statistic.h"
#include "lib/calibration/token_mask.h"
#include "lib/tensor/tensor.h"

namespace tcompress::calibration {

class ObservedRows {
  public:
    /// A float32 tensor without padding is looked at where it is; else the rows are copied.
    ObservedRows(const Tensor& tensor, const TokenMask& mask);

    Rows rows() const { return {rows_, channels_, values_}; }
    /// Makes the rows outlive the tensor.
    void own();

  private:
    std::int64_t rows_ = 0;
    std::int64_t channels_ = 0;
    std::span<const float> values_;
    std::vector<float> copy_;
};

}  // namespace tcompress::calibration
