#pragma once
// Affine quantization as ONNX defines it: y = saturate(roundHalfEven(x / scale) + zeroPoint), x = (y −
// zeroPoint) · scale; per tensor, per axis, or in blocks along an axis. Storage types: int8, uint8, int16,
// uint16, int4, uint4, int2, uint2 (sub-byte types packed, low bits first), and int32 for dequantization
// (biases). Sub-byte tensors are parallel over whole bytes. NaN quantizes as ONNX Runtime does not define it:
// to the zero point.

#include <cstdint>
#include <span>

#include "lib/tensor/dtype.h"

namespace tcompress::kernels {

/// How scales belong to elements of a tensor seen as [outer, axis, inner].
enum class Granularity {
    tensor,  // one scale
    axis,    // scales[axis]
    block    // scales[outer, ceil(axis / block), inner]
};

struct QuantizationLayout {
    Granularity granularity = Granularity::tensor;
    std::int64_t outer = 1;
    std::int64_t axis = 1;
    std::int64_t inner = 1;
    std::int64_t block = 0;  // only for Granularity::block

    std::int64_t size() const { return outer * axis * inner; }
    std::int64_t blocks() const { return (axis + block - 1) / block; }
    std::int64_t scaleCount() const;
};

struct IntegerRange {
    std::int32_t low = 0;
    std::int32_t high = 0;
};
/// Of the integer storage types of 16 bits or less.
IntegerRange integerRange(DType type);

/// zeroPoints: stored as `type` (packed when sub-byte), scaleCount() of them, or null for zeros.
struct QuantizeLinear {
    QuantizationLayout layout;
    const float* x = nullptr;
    const float* scales = nullptr;
    const void* zeroPoints = nullptr;
    DType type = DType::int8;
    void* y = nullptr;
};
void quantizeLinear(const QuantizeLinear& params);

struct DequantizeLinear {
    QuantizationLayout layout;
    const void* x = nullptr;
    DType type = DType::int8;
    const float* scales = nullptr;
    const void* zeroPoints = nullptr;
    float* y = nullptr;
};
void dequantizeLinear(const DequantizeLinear& params);

/// One run of elements that share a scale: y = (x − zeroPoint) · scale. x is packed and starts on a whole
/// byte. Serial.
void dequantizeRun(const void* x, DType type, std::int64_t count, float scale, std::int32_t zeroPoint,
                   float* y);

/// x → roundHalfEven(x / scale) clamped to [low, high] and back, in place of storing it (fake quantization).
void fakeQuantize(const QuantizationLayout& layout, std::span<const float> x, std::span<const float> scales,
                  std::span<const std::int32_t> zeroPoints, IntegerRange range, std::span<float> y);

struct MinMax {
    float min = 0.0F;
    float max = 0.0F;
};
/// Smallest and largest element, NaN skipped; {0, 0} when there is none.
MinMax minMax(std::span<const float> x);

/// Per group of `layout` (one a scale), in the order of the scales. NaN skipped; {0, 0} for empty groups.
void groupMinMax(const QuantizationLayout& layout, std::span<const float> x, std::span<float> mins,
                 std::span<float> maxs);
/// Largest |x| per group.
void groupAbsMax(const QuantizationLayout& layout, std::span<const float> x, std::span<float> maxs);

/// The scale and zero point of ONNX DynamicQuantizeLinear for data in [min, max] (widened to hold 0); scale 0
/// → 1.
struct UInt8Parameters {
    float scale = 1.0F;
    std::uint8_t zeroPoint = 0;
};
UInt8Parameters dynamicUInt8Parameters(MinMax range);

/// ONNX DynamicQuantizeLinear: chooses the parameters from x and quantizes it.
UInt8Parameters dynamicQuantizeLinear(std::span<const float> x, std::span<std::uint8_t> y);
/// The same for rows that are `stride` apart; y is dense.
UInt8Parameters dynamicQuantizeLinear(const float* x, std::int64_t rows, std::int64_t columns,
                                      std::int64_t stride, std::uint8_t* y);

/// 2- and 4-bit integers to and from one value a byte; `packed` holds packedSizeBytes(type, count).
void unpackSubByte(DType type, std::span<const std::byte> packed, std::span<std::int8_t> values);
void packSubByte(DType type, std::span<const std::int8_t> values, std::span<std::byte> packed);

}  // namespace tcompress::kernels
