#include "kernels/matmul.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/native/matmul_native.h"
#include "kernels/native/transpose_matrix.h"
#include "kernels/packed_weights.h"
#include "kernels/reference/matmul_reference.h"
#include "kernels/run_kernel.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

template <class Params>
std::optional<std::string> takesAll(const Params&) {
    return std::nullopt;
}

constexpr std::array kPackedKernels{
    KernelRow<PackedMatmul>{"native", takesAll<PackedMatmul>, matmulNative},
    KernelRow<PackedMatmul>{"reference", takesAll<PackedMatmul>, matmulReference},
};
constexpr std::array kBatchedKernels{
    KernelRow<BatchedMatmul>{"native", takesAll<BatchedMatmul>, matmulNative},
    KernelRow<BatchedMatmul>{"reference", takesAll<BatchedMatmul>, matmulReference},
};

}  // namespace

void packPanel(const float* b, std::int64_t k, std::int64_t columns, std::int64_t rowStride,
               std::int64_t columnStride, float* target) {
    if (columns == kPanelColumns && columnStride == 1) {
        for (std::int64_t row = 0; row < k; ++row)
            std::memcpy(target + row * kPanelColumns, b + row * rowStride, kPanelColumns * sizeof(float));
        return;
    }
    if (columns < kPanelColumns) std::fill(target, target + k * kPanelColumns, 0.0F);
    if (columnStride == 1) {
        for (std::int64_t row = 0; row < k; ++row)
            std::copy_n(b + row * rowStride, columns, target + row * kPanelColumns);
        return;
    }
    if (rowStride == 1) {
        transposeMatrix(b, columnStride, columns, k, target, kPanelColumns);
        return;
    }
    for (std::int64_t row = 0; row < k; ++row)
        for (std::int64_t column = 0; column < columns; ++column)
            target[row * kPanelColumns + column] = b[row * rowStride + column * columnStride];
}

PackedWeightsPtr packWeights(const float* b, std::int64_t k, std::int64_t n, std::int64_t rowStride,
                             std::int64_t columnStride) {
    TCOMPRESS_CHECK(k >= 0 && n >= 0, "packWeights: negative size");
    auto packed = std::make_shared<PackedWeights>(k, n);
    const std::int64_t panels = ceilDivide(n, kPanelColumns);
    const std::int64_t grain =
        std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, k * kPanelColumns));
    parallelRanges(panels, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t panel = begin; panel < end; ++panel) {
            const std::int64_t column = panel * kPanelColumns;
            packPanel(b + column * columnStride, k, std::min(kPanelColumns, n - column), rowStride,
                      columnStride, packed->panel(panel));
        }
    });
    return packed;
}

std::int64_t rows(const PackedWeights& weights) { return weights.k(); }
std::int64_t columns(const PackedWeights& weights) { return weights.n(); }
std::size_t sizeBytes(const PackedWeights& weights) { return weights.sizeBytes(); }

std::span<const KernelRow<PackedMatmul>> packedMatmulKernels() { return kPackedKernels; }
std::span<const KernelRow<BatchedMatmul>> batchedMatmulKernels() { return kBatchedKernels; }

void matmul(const PackedMatmul& params) {
    TCOMPRESS_CHECK(params.weights != nullptr, "matmul: no weights");
    if (params.m == 0 || params.weights->n() == 0) return;
    runKernel(packedMatmulKernels(), params);
}

void matmul(const BatchedMatmul& params) {
    TCOMPRESS_CHECK(params.batch.size() == params.aBatchStrides.size() &&
                        params.batch.size() == params.bBatchStrides.size() &&
                        params.batch.size() == params.cBatchStrides.size(),
                    "matmul: each operand needs one stride a batch dimension");
    if (params.m == 0 || params.n == 0) return;
    if (std::find(params.batch.begin(), params.batch.end(), 0) != params.batch.end()) return;
    runKernel(batchedMatmulKernels(), params);
}

template <class T>
void matmulPlain(const BatchedMatmulOf<T>& params) {
    std::int64_t batches = 1;
    for (const std::int64_t size : params.batch) batches *= size;
    parallelFor(batches * params.m, [&](std::int64_t index) {
        const std::int64_t row = index % params.m;
        const T* a = params.a + row * params.aRowStride;
        const T* b = params.b;
        T* c = params.c + row * params.cRowStride;
        std::int64_t batch = index / params.m;
        for (std::size_t d = params.batch.size(); d-- > 0; batch /= params.batch[d]) {
            const std::int64_t position = batch % params.batch[d];
            a += position * params.aBatchStrides[d];
            b += position * params.bBatchStrides[d];
            c += position * params.cBatchStrides[d];
        }
        std::fill(c, c + params.n, T{0});
        for (std::int64_t k = 0; k < params.k; ++k) {
            const T element = a[k * params.aColumnStride];
            for (std::int64_t column = 0; column < params.n; ++column)
                c[column] += element * b[k * params.bRowStride + column * params.bColumnStride];
        }
    });
}

// Signed overflow would be undefined, so signed types run as unsigned ones of the same width: the bits are
// the same.
template void matmulPlain(const BatchedMatmulOf<double>&);
template void matmulPlain(const BatchedMatmulOf<std::uint32_t>&);
template void matmulPlain(const BatchedMatmulOf<std::uint64_t>&);

template <class Signed, class Unsigned>
static void matmulWrapping(const BatchedMatmulOf<Signed>& params) {
    matmulPlain(BatchedMatmulOf<Unsigned>{
        params.batch, params.m, params.n, params.k, reinterpret_cast<const Unsigned*>(params.a),
        params.aBatchStrides, params.aRowStride, params.aColumnStride,
        reinterpret_cast<const Unsigned*>(params.b), params.bBatchStrides, params.bRowStride,
        params.bColumnStride, reinterpret_cast<Unsigned*>(params.c), params.cBatchStrides,
        params.cRowStride});
}
template <>
void matmulPlain(const BatchedMatmulOf<std::int32_t>& params) {
    matmulWrapping<std::int32_t, std::uint32_t>(params);
}
template <>
void matmulPlain(const BatchedMatmulOf<std::int64_t>& params) {
    matmulWrapping<std::int64_t, std::uint64_t>(params);
}

}  // namespace tcompress::kernels
