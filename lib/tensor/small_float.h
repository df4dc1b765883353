#pragma once
// Floating-point formats of 16 bits and less, described by their parameters; encoding rounds to nearest even.
// Formats: IEEE 754-2019 binary16; bfloat16; float8 of Micikevicius et al., "FP8 Formats for Deep Learning"
// (2022, E4M3FN and E5M2) and of Noune et al., "8-bit Numerical Formats for Deep Neural Networks" (2022, the
// FNUZ ones); E2M1 and E8M0 of the OCP Microscaling Formats specification 1.0 (2023). Values out of range as
// ONNX Cast with saturate=1 treats them.

#include <cstdint>

#include "lib/tensor/dtype.h"

namespace tcompress {

/// The float32 nearest to `value` in the sense of "round to odd": rounding it once more to any format with at
/// least two bits less gives the same as rounding `value` at once.
float roundToOdd(double value);

/// True for float16, bfloat16, the float8 types and float4e2m1.
bool isSmallFloat(DType dtype);
/// The code (low bits of the result) of the value nearest to `value`.
std::uint16_t encodeSmallFloat(DType dtype, float value);
float decodeSmallFloat(DType dtype, std::uint16_t code);

}  // namespace tcompress
