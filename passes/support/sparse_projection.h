#pragma once
// Which weights of a matrix stay when only the largest may: as many as a pattern of zeros asks for.

#include <cstdint>
#include <span>
#include <vector>

#include "passes/support/sparse_obs.h"

namespace tcompress::passes {

/// Decides by the squares of weights. Matrices are outputs × inputs.
class SparseProjection {
  public:
    SparseProjection(const SparsePattern& pattern, double sparsity, std::int64_t inputs, std::int64_t outputs);

    /// One flag a weight, until the next call.
    std::span<const char> operator()(std::span<const float> squares);

  private:
    void chooseGrouped(std::span<const float> squares);
    void chooseBlocks(std::span<const float> squares);

    SparsePattern pattern_;
    std::int64_t inputs_, outputs_, gone_ = 0;  ///< blocks that go
    std::vector<char> stays_, blockStays_;
    std::vector<float> blocks_;
};

}  // namespace tcompress::passes
