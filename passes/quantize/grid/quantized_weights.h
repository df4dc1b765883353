#pragma once
// Weights as integers in groups along one axis, and what the integers stand for:
//
//   w ≈ (code − zeroPoint) · scale
//
// One bit has no code for 0: codes are 0 and 1, and zero points are real numbers (few_levels.h).

#include <bit>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "kernels/multiversion.h"
#include "kernels/quantize.h"
#include "lib/support/aligned_memory.h"
#include "lib/tensor/tensor.h"

namespace tcompress::passes {

enum class Symmetry {
    /// Codes −high … high around zero: the largest |w| maps to ±high.
    balanced,
    /// Codes low … high around zero with low = −high − 1: the weight of largest magnitude maps to `low`, so
    /// the scale may be negative. Uses every code, which matters at 4 bits and less.
    fullRange,
    /// Codes 0 … high with a zero point; the range is widened to hold 0, which is then exact.
    asymmetric
};

/// How the range of a group is chosen.
enum class RangeChoice {
    minmax,  ///< smallest to largest weight
    mse      ///< the cut of that range with the smallest squared error, of a fixed grid of cuts
};

struct QuantizationRule {
    int bits = 8;
    Symmetry symmetry = Symmetry::balanced;
    RangeChoice range = RangeChoice::minmax;
    /// Largest code of a balanced rule; 0: all that the bits hold (127 at 8 bits). With 2 bits: −1, 0, 1.
    std::int32_t balancedLimit = 0;
    /// float32, float16 or uint8 (codes of scales, scale_codes.h): what the scales are stored in.
    DType scaleType = DType::float32;
};

/// Codes −1, 0 and 1, of which five are stored in a byte.
bool isTernary(const QuantizationRule& rule);

/// Smallest and largest stored code.
struct CodeRange {
    std::int32_t low = 0;
    std::int32_t high = 0;
};
CodeRange codeRange(const QuantizationRule& rule);
/// What is added to codes where they are stored unsigned.
int storedOffset(const QuantizationRule& rule);

/// Codes of a weight, which begin without values: whoever writes them touches their memory first, on every
/// thread.
using CodeVector = std::vector<std::uint8_t, UninitializedAllocator<std::uint8_t>>;

/// A tensor seen as [outer, axis, inner], cut in blocks along `axis` (block = axis: one group a channel).
/// scales and zeroPoints: [outer, blocks, inner].
struct QuantizedWeights {
    kernels::QuantizationLayout layout;
    QuantizationRule rule;
    /// One code a byte, in the tensor's order: int8 for symmetric rules, uint8 for asymmetric ones and for 1
    /// bit.
    CodeVector codes;
    /// Exactly representable in rule.scaleType.
    std::vector<float> scales;
    /// What 8-bit scales are made of: one code a group, int8 where scales have signs, and units (scale_codes.h).
    std::vector<std::uint8_t> scaleCodes;
    std::vector<float> scaleUnits;
    /// Empty for symmetric rules (the zero point is 0).
    std::vector<std::uint8_t> zeroPoints;
    /// Instead of zeroPoints where 1-bit codes are asymmetric; exactly representable in rule.scaleType.
    std::vector<float> realZeros;
    /// ‖w − dequantized‖ / ‖w‖ (0 for a tensor of zeros; −1: too large to be measured).
    double relativeError = 0;

    /// What is taken from the codes of a group (a place in `scales`); ½ for symmetric codes of 1 bit.
    float zeroOf(std::size_t group) const;
};

/// One group a channel of an axis: `block` as long as the axis.
kernels::QuantizationLayout groupedLayout(const Shape& shape, std::size_t axis, std::int64_t block);

/// A float16 scale below this has fewer than 5 significant bits left, or becomes 0.
inline constexpr float kSmallestHalfScale = 0x1p-20F;
inline constexpr float kLargestHalf = 65504.0F;
/// Magnitudes below this give scale 1 and zero codes: a scale made from them would leave the normal numbers.
inline constexpr float kSmallestMagnitude = 1e-30F;
/// Below this a scale of `type` is not used.
float smallestScale(DType type);

/// The scale as `type` stores it: float16 rounds away from zero, so that a range still covers what it was
/// made to cover.
float storedScale(float scale, DType type);

/// The float16 of least magnitude that is not below the value's. In float32 of 23 bits of fraction it is the
/// carry of the 13 that float16 lacks; below 2⁻¹⁴ float16 counts in steps of 2⁻²⁴.
TCOMPRESS_INLINE float raisedToHalf(float value) {
    constexpr std::uint32_t kSign = 0x80000000U, kLacking = 0x1fffU;
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value), size = bits & ~kSign;
    const float magnitude = std::bit_cast<float>(size);
    const float carried = std::bit_cast<float>((size + kLacking) & ~kLacking);
    constexpr float kRounder = 0x1p23F;
    const float steps = magnitude * 0x1p24F, nearest = (steps + kRounder) - kRounder;
    const float counted = (nearest < steps ? nearest + 1 : nearest) * 0x1p-24F;
    const float small = magnitude < 0x1p-14F ? counted : carried;
    const float raised = small > kLargestHalf ? std::numeric_limits<float>::infinity() : small;
    return magnitude != magnitude
               ? value
               : std::bit_cast<float>(std::bit_cast<std::uint32_t>(raised) | (bits & kSign));
}

/// What the codes stand for.
std::vector<float> dequantizeWeights(const QuantizedWeights& weights);

/// Codes, scales and zero points of the right sizes that stand for nothing: what a form takes in a file can be
/// measured before anything is rounded.
QuantizedWeights placeholderWeights(const kernels::QuantizationLayout& layout, const QuantizationRule& rule);

/// Sets relativeError for codes that were chosen otherwise.
void measureRelativeError(QuantizedWeights& quantized, std::span<const float> weights);

}  // namespace tcompress::passes
