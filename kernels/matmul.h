#pragma once
// Matrix products. C[M,N] = residual + activation(alpha · A[M,K] · B[K,N] + bias), float32, with
//  - B constant: packed once (packWeights), then used by any number of calls with any M;
//  - B computed: batched, with any strides, so that transposed or interleaved heads need no copy.
// Work is cut into tiles by the shapes alone, so the result is the same bytes for any number of threads.

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/activation.h"
#include "kernels/table.h"

namespace tcompress::kernels {

/// What happens to a finished product, in this order: · alpha, + bias, activation, + residual.
struct Epilogue {
    float alpha = 1.0F;
    const float* bias = nullptr;  // [N]
    Activation activation = Activation::none;
    /// [M, N], rows residualStride apart; of the products of this header it may be C itself where there is no
    /// activation.
    const float* residual = nullptr;
    std::int64_t residualStride = 0;
};

/// A constant B[K,N] in the layout the kernels like. Immutable; may be used by several threads at once.
class PackedWeights;
using PackedWeightsPtr = std::shared_ptr<const PackedWeights>;

/// Packs B; element (k, n) is b[k · rowStride + n · columnStride], so a transposed B is rowStride 1. b is not
/// kept unless kernelChoice() is reference (then a dense copy is).
PackedWeightsPtr packWeights(const float* b, std::int64_t k, std::int64_t n, std::int64_t rowStride,
                             std::int64_t columnStride);
/// Row-major B[K,N].
inline PackedWeightsPtr packWeights(const float* b, std::int64_t k, std::int64_t n) {
    return packWeights(b, k, n, n, 1);
}
std::int64_t rows(const PackedWeights& weights);     // K
std::int64_t columns(const PackedWeights& weights);  // N
std::size_t sizeBytes(const PackedWeights& weights);

struct PackedMatmul {
    const float* a = nullptr;  // [M, K], contiguous rows
    std::int64_t aStride = 0;  // elements between rows of A
    std::int64_t m = 0;
    const PackedWeights* weights = nullptr;
    float* c = nullptr;        // [M, N], contiguous rows; must not overlap A
    std::int64_t cStride = 0;  // elements between rows of C
    Epilogue epilogue;
};

void matmul(const PackedMatmul& params);
std::span<const KernelRow<PackedMatmul>> packedMatmulKernels();

/// A batch of products of matrices that are not packed. batch holds the batch dimensions (may be empty); each
/// stride list has one entry a batch dimension (0 = broadcast). The bias and residual of the epilogue: bias
/// [N] for all batches; residual has C's layout and strides (residualStride is not read).
template <class T>
struct BatchedMatmulOf {
    std::vector<std::int64_t> batch;
    std::int64_t m = 0, n = 0, k = 0;
    const T* a = nullptr;
    std::vector<std::int64_t> aBatchStrides;
    std::int64_t aRowStride = 0, aColumnStride = 1;
    const T* b = nullptr;
    std::vector<std::int64_t> bBatchStrides;
    std::int64_t bRowStride = 0, bColumnStride = 1;
    T* c = nullptr;
    std::vector<std::int64_t> cBatchStrides;
    std::int64_t cRowStride = 0;
};
struct BatchedMatmul : BatchedMatmulOf<float> {
    Epilogue epilogue;
};

void matmul(const BatchedMatmul& params);
std::span<const KernelRow<BatchedMatmul>> batchedMatmulKernels();

/// The plain loops, for the types without a fast kernel: double, std::int32_t, std::uint32_t, std::int64_t,
/// std::uint64_t (integers wrap around). Parallel over rows; each sum runs over k in order.
template <class T>
void matmulPlain(const BatchedMatmulOf<T>& params);

}  // namespace tcompress::kernels
