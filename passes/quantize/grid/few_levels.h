#pragma once
// Groups of weights in two or three levels: the levels with the least squared error, found exactly.
//
//   binary, symmetric    w ≈ ±m                m = mean |w|
//   binary               w ≈ a or b            the means of the lower and the upper part of the sorted
//                                              weights, cut where their squared distance is least
//   ternary              w ≈ −m, 0 or m        m = mean of the k largest |w|, k where (Σ|w|)² / k is largest
//
// Source: Rastegari et al. 2016, "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural
// Networks"; Li et al. 2016, "Ternary Weight Networks" (which approximates the threshold that is exact here);
// the cut in two: Fisher 1958, "On Grouping for Maximum Homogeneity".

#include <cstdint>
#include <span>
#include <vector>

#include "passes/quantize/grid/group_grid.h"

namespace tcompress::passes {

/// w ≈ (code − zero) · scale, code 0 or 1.
struct BinaryGrid {
    float scale = 1;
    float zero = 0.5F;
};

/// Codes of a group of two levels, the nearer one each, and what that lost.
Energy encodeBinary(const float* x, std::int64_t n, const BinaryGrid& grid, std::uint8_t* codes);

/// Solves one group after another in the same memory. Weights must be finite; `importance`, one a weight,
/// multiplies the squared errors.
class FewLevels {
  public:
    /// m above, 0 for a group of zeros; binary levels are ±m.
    float binaryMagnitude(std::span<const float> weights, std::span<const float> importance);
    /// a and b above, with zero = −a / scale. A group of one value is exact.
    BinaryGrid binaryLevels(std::span<const float> weights, std::span<const float> importance);
    /// m of the ternary levels, 0 for a group of zeros.
    float ternaryMagnitude(std::span<const float> weights, std::span<const float> importance);

  private:
    struct Weighted {
        float value = 0;
        float importance = 0;
    };
    std::vector<Weighted> sorted_;
};

}  // namespace tcompress::passes
