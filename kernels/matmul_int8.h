#pragma once
// Integer matrix products, 8-bit operands and exact 32-bit sums (no saturation of intermediate sums), and the
// form that dynamic quantization gives a linear layer: float in, float out.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "kernels/matmul.h"
#include "kernels/table.h"
#include "lib/tensor/dtype.h"

namespace tcompress::kernels {

/// A constant B[K,N] of int8 or uint8 with its column sums. Immutable, thread-safe.
class PackedInt8Weights;
using PackedInt8WeightsPtr = std::shared_ptr<const PackedInt8Weights>;

/// Packs B; element (k, n) is at b[k · rowStride + n · columnStride]. type is int8 or uint8.
/// zeroPoints: none (all zero), one, or one a column, as values of B's type.
PackedInt8WeightsPtr packInt8Weights(const void* b, DType type, std::int64_t k, std::int64_t n,
                                     std::int64_t rowStride, std::int64_t columnStride,
                                     std::span<const std::int32_t> zeroPoints);
std::int64_t rows(const PackedInt8Weights& weights);     // K
std::int64_t columns(const PackedInt8Weights& weights);  // N
std::size_t sizeBytes(const PackedInt8Weights& weights);

/// ONNX MatMulInteger: C[m,n] = Σ_k (A[m,k] − aZeroPoint[m]) · (B[k,n] − bZeroPoint[n]), int32 with
/// wrap-around.
struct Int8Matmul {
    const void* a = nullptr;  // [M, K] of aType, contiguous rows
    DType aType = DType::uint8;
    std::int64_t aStride = 0;
    std::int64_t m = 0;
    std::span<const std::int32_t> aZeroPoints;  // none, one, or one a row
    const PackedInt8Weights* weights = nullptr;
    std::int32_t* c = nullptr;  // [M, N]
    std::int64_t cStride = 0;
};

void matmulInt8(const Int8Matmul& params);
std::span<const KernelRow<Int8Matmul>> int8MatmulKernels();

/// A tensor's affine 8-bit code: value = (stored − zeroPoint) · scale.
struct Int8Code {
    DType type = DType::uint8;  // or int8
    float scale = 1.0F;
    std::int32_t zeroPoint = 0;
};

/// The same product, then C = residual + activation(float(sum) · (aScale · bScales[n]) + bias[n]), float32:
/// what MatMulInteger → Cast → Mul(aScale · bScale) → Add … computes
/// (but for the one rounding that a fused multiply-add saves), and what DequantizeLinear → MatMul → Add …
/// → QuantizeLinear means.
struct ScaledInt8Matmul {
    const void* a = nullptr;
    std::int64_t aStride = 0;
    std::int64_t m = 0;
    Int8Code aCode;
    const PackedInt8Weights* weights = nullptr;
    std::span<const float> bScales;  // one, or one a column
    /// The scaled sum is rounded to this code before the bias is added: a QuantizeLinear → DequantizeLinear
    /// pair there. Rounding multiplies by 1 / scale, so what lies within float rounding of a tie may go
    /// either way.
    std::optional<Int8Code> beforeBias;
    Epilogue epilogue;  // alpha is applied to the scale
    /// C holds codes, not float32: saturate(roundHalfEven(value / scale) + zeroPoint), rounded as above.
    std::optional<Int8Code> result;
    void* c = nullptr;
    std::int64_t cStride = 0;  // in elements
};

void matmulInt8(const ScaledInt8Matmul& params);
std::span<const KernelRow<ScaledInt8Matmul>> scaledInt8MatmulKernels();

/// DynamicQuantizeLinear of the whole A (one scale), then ScaledInt8Matmul.
struct DynamicInt8Matmul {
    const float* a = nullptr;  // [M, K], contiguous rows
    std::int64_t aStride = 0;
    std::int64_t m = 0;
    const PackedInt8Weights* weights = nullptr;
    std::span<const float> bScales;
    float* c = nullptr;
    std::int64_t cStride = 0;
    Epilogue epilogue;
};

void matmulInt8(const DynamicInt8Matmul& params);

/// MatMulInteger of operands that are not constant: packs B for this one call. Batch dimensions are the
/// caller's loop.
void matmulInt8Unpacked(const void* a, DType aType, std::span<const std::int32_t> aZeroPoints, const void* b,
                        DType bType, std::span<const std::int32_t> bZeroPoints, std::int64_t m,
                        std::int64_t k, std::int64_t n, std::int32_t* c);

}  // namespace tcompress::kernels
