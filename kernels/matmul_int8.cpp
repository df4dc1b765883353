// Which implementation multiplies 8-bit matrices, and what is done before and after: zero points, scales,
// codes.

#include "kernels/matmul_int8.h"

#include <array>
#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/native/matmul_int8_native.h"
#include "kernels/onednn/int8_tiles.h"
#include "kernels/packed_int8_weights.h"
#include "kernels/quantize.h"
#include "kernels/reference/matmul_int8_reference.h"
#include "kernels/run_kernel.h"
#include "lib/support/check.h"

namespace tcompress::kernels {

namespace {

struct QuantizedA;
struct ColumnScales;
struct ColumnOffsets;

using Multiply = void (*)(const Int8Rows&, const PackedInt8Weights&, const Int8SumsVisitor&);

template <Multiply kMultiply>
void runInt8(const Int8Matmul& params) {
    kMultiply({params.a, params.aType, params.aStride, params.m}, *params.weights,
              [&](const Int8Sums& block) {
                  correctInt8Sums(block, *params.weights, params.aZeroPoints, params.c, params.cStride);
              });
}

/// What the multiplied elements of A are larger by than A's: our own kernels multiply unsigned codes only.
std::int32_t shiftOf(const Int8Code& code, const PackedInt8Weights& weights) {
    return code.type == DType::int8 && weights.form == Int8Form::panels ? 128 : 0;
}

template <Multiply kMultiply>
void runScaledInt8(const ScaledInt8Matmul& params) {
    const PackedInt8Weights& weights = *params.weights;
    const auto n = static_cast<std::size_t>(weights.n);
    float* scales = threadScratch<ColumnScales, float>(weights.n);
    std::int32_t* offsets = threadScratch<ColumnOffsets, std::int32_t>(weights.n);
    const float scale = params.aCode.scale;
    const auto zeroPoint =
        static_cast<std::uint32_t>(params.aCode.zeroPoint + shiftOf(params.aCode, weights));
    for (std::size_t i = 0; i < n; ++i) {
        scales[i] = scale * params.bScales[params.bScales.size() > 1 ? i : 0] * params.epilogue.alpha;
        offsets[i] = static_cast<std::int32_t>(zeroPoint * static_cast<std::uint32_t>(weights.columnSums[i]));
    }
    const Int8Finish finish{weights.zeroPoints.empty() ? nullptr : weights.zeroPoints.data(),
                            offsets,
                            scales,
                            params.beforeBias,
                            params.epilogue,
                            params.result,
                            params.c,
                            params.cStride};
    kMultiply({params.a, params.aCode.type, params.aStride, params.m}, weights,
              [&](const Int8Sums& block) { finishInt8Sums(block, finish); });
}

template <class Params, Int8Form kForm>
std::optional<std::string> refuse(const Params& params) {
    if (params.weights->form != kForm) return "the weights are packed for another kernel";
    return std::nullopt;
}

constexpr std::array kInt8Kernels{
    KernelRow<Int8Matmul>{"native", refuse<Int8Matmul, Int8Form::panels>, runInt8<multiplyInt8Native>},
    KernelRow<Int8Matmul>{"onednn", refuse<Int8Matmul, Int8Form::onednnBlocks>,
                          runInt8<onednn::multiplyInt8>},
    KernelRow<Int8Matmul>{"reference", nullptr, matmulInt8Reference},
};
constexpr std::array kScaledKernels{
    KernelRow<ScaledInt8Matmul>{"native", refuse<ScaledInt8Matmul, Int8Form::panels>,
                                runScaledInt8<multiplyInt8Native>},
    KernelRow<ScaledInt8Matmul>{"onednn", refuse<ScaledInt8Matmul, Int8Form::onednnBlocks>,
                                runScaledInt8<onednn::multiplyInt8>},
    KernelRow<ScaledInt8Matmul>{"reference", nullptr, matmulInt8Reference},
};

}  // namespace

std::span<const KernelRow<Int8Matmul>> int8MatmulKernels() { return kInt8Kernels; }
std::span<const KernelRow<ScaledInt8Matmul>> scaledInt8MatmulKernels() { return kScaledKernels; }

void matmulInt8(const Int8Matmul& params) {
    TCOMPRESS_CHECK(params.weights != nullptr, "matmulInt8: no weights");
    TCOMPRESS_CHECK(params.aType == DType::int8 || params.aType == DType::uint8,
                    "matmulInt8: A must be 8 bits wide");
    if (params.m == 0 || params.weights->n == 0) return;
    runKernel(int8MatmulKernels(), params);
}

void matmulInt8(const ScaledInt8Matmul& params) {
    TCOMPRESS_CHECK(params.weights != nullptr, "matmulInt8: no weights");
    TCOMPRESS_CHECK(
        params.bScales.size() == 1 || static_cast<std::int64_t>(params.bScales.size()) == params.weights->n,
        "matmulInt8: one scale, or one a column");
    if (params.m == 0 || params.weights->n == 0) return;
    runKernel(scaledInt8MatmulKernels(), params);
}

void matmulInt8(const DynamicInt8Matmul& params) {
    TCOMPRESS_CHECK(params.weights != nullptr, "matmulInt8: no weights");
    const std::int64_t k = params.weights->k;
    auto* quantized = threadScratch<QuantizedA, std::uint8_t>(params.m * k);
    const UInt8Parameters parameters =
        dynamicQuantizeLinear(params.a, params.m, k, params.aStride, quantized);
    ScaledInt8Matmul scaled;
    scaled.a = quantized;
    scaled.aStride = k;
    scaled.m = params.m;
    scaled.aCode = {DType::uint8, parameters.scale, parameters.zeroPoint};
    scaled.weights = params.weights;
    scaled.bScales = params.bScales;
    scaled.c = params.c;
    scaled.cStride = params.cStride;
    scaled.epilogue = params.epilogue;
    matmulInt8(scaled);
}

void matmulInt8Unpacked(const void* a, DType aType, std::span<const std::int32_t> aZeroPoints, const void* b,
                        DType bType, std::span<const std::int32_t> bZeroPoints, std::int64_t m,
                        std::int64_t k, std::int64_t n, std::int32_t* c) {
    const PackedInt8WeightsPtr packed = packInt8Weights(b, bType, k, n, n, 1, bZeroPoints);
    matmulInt8(Int8Matmul{a, aType, k, m, aZeroPoints, packed.get(), c, n});
}

}  // namespace tcompress::kernels
