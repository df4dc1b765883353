#pragma once
// Rounding sixteen floats to an 8-bit code. Division by the scale is multiplication by its inverse, so a
// value within float rounding of a tie may fall to the other side.

#include "kernels/matmul_int8.h"
#include "kernels/native/vector_math.h"
#include "kernels/quantize.h"

namespace tcompress::kernels {

/// Spread over the lanes once, outside of the loop.
struct VectorCode {
    FloatVector inverse, scale;
    FloatVector low, high;  // of code − zero point
    IntVector zeroPoint;
};
inline VectorCode vectorCode(const Int8Code& code) {
    const IntegerRange range = integerRange(code.type);
    return {broadcastVector(1.0F / code.scale), broadcastVector(code.scale),
            broadcastVector(static_cast<float>(range.low - code.zeroPoint)),
            broadcastVector(static_cast<float>(range.high - code.zeroPoint)), IntVector{} + code.zeroPoint};
}

/// Largest float that rounds to nearest-even by adding and taking away 1.5·2^23.
constexpr float kRoundingShift = 12582912.0F;

/// roundHalfEven(x / scale) within the code's range, + kRoundingShift; NaN gives the lowest code.
TCOMPRESS_INLINE FloatVector shiftedCode(FloatVector x, const VectorCode& code) {
    FloatVector value = x * code.inverse;
    value = value > code.low ? value : code.low;
    value = value < code.high ? value : code.high;
    return value + kRoundingShift;
}
/// x rounded to the nearest value that the code has.
TCOMPRESS_INLINE FloatVector roundToCode(FloatVector x, const VectorCode& code) {
    return (shiftedCode(x, code) - kRoundingShift) * code.scale;
}
/// The first `count` codes of x.
TCOMPRESS_INLINE void storeCodes(std::uint8_t* target, FloatVector x, const VectorCode& code,
                                 std::int64_t count) {
    using Bytes = std::uint8_t __attribute__((vector_size(16)));
    const IntVector codes = std::bit_cast<IntVector>(shiftedCode(x, code)) -
                            std::bit_cast<std::int32_t>(kRoundingShift) + code.zeroPoint;
    const Bytes bytes = __builtin_convertvector(codes, Bytes);
    if (count == kLanes)
        std::memcpy(target, &bytes, sizeof bytes);
    else
        std::memcpy(target, &bytes, static_cast<std::size_t>(count));
}

}  // namespace tcompress::kernels
