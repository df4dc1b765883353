#include "kernels/reference/matmul_int8_reference.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/packed_int8_weights.h"
#include "kernels/reference/matmul_reference.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

std::int32_t elementOf(const void* a, DType type, std::int64_t index) {
    return type == DType::uint8 ? static_cast<std::int32_t>(static_cast<const std::uint8_t*>(a)[index])
                                : static_cast<std::int32_t>(static_cast<const std::int8_t*>(a)[index]);
}

}  // namespace

void matmulInt8Reference(const Int8Matmul& params) {
    const PackedInt8Weights& weights = *params.weights;
    const std::vector<std::int8_t> b = weights.values();
    parallelFor(params.m, [&](std::int64_t row) {
        const std::size_t zeroIndex = params.aZeroPoints.size() > 1 ? static_cast<std::size_t>(row) : 0;
        const std::int32_t aZero = params.aZeroPoints.empty() ? 0 : params.aZeroPoints[zeroIndex];
        std::vector<std::uint32_t> sums(static_cast<std::size_t>(weights.n));
        for (std::int64_t k = 0; k < weights.k; ++k) {
            const std::int32_t element = elementOf(params.a, params.aType, row * params.aStride + k) - aZero;
            const std::int8_t* bRow = b.data() + k * weights.n;
            for (std::size_t n = 0; n < sums.size(); ++n) {
                const std::int32_t zero = weights.zeroPoints.empty() ? 0 : weights.zeroPoints[n];
                sums[n] += static_cast<std::uint32_t>(element * (bRow[n] - zero));
            }
        }
        for (std::size_t n = 0; n < sums.size(); ++n)
            params.c[row * params.cStride + static_cast<std::int64_t>(n)] =
                static_cast<std::int32_t>(sums[n]);
    });
}

namespace {

/// roundHalfEven(value / scale) + zeroPoint, saturated.
std::int32_t codeOf(double value, const Int8Code& code) {
    const std::int32_t low = code.type == DType::uint8 ? 0 : -128;
    const double rounded = std::nearbyint(value / code.scale) + code.zeroPoint;
    return static_cast<std::int32_t>(std::clamp<double>(rounded, low, low + 255));
}

}  // namespace

void matmulInt8Reference(const ScaledInt8Matmul& params) {
    const std::int64_t n = params.weights->n;
    std::vector<std::int32_t> sums(static_cast<std::size_t>(params.m * n));
    matmulInt8Reference(Int8Matmul{params.a,
                                   params.aCode.type,
                                   params.aStride,
                                   params.m,
                                   {&params.aCode.zeroPoint, 1},
                                   params.weights,
                                   sums.data(),
                                   n});
    const Epilogue& epilogue = params.epilogue;
    for (std::int64_t row = 0; row < params.m; ++row) {
        for (std::int64_t column = 0; column < n; ++column) {
            const float bScale =
                params.bScales[params.bScales.size() > 1 ? static_cast<std::size_t>(column) : 0];
            double value = static_cast<double>(sums[static_cast<std::size_t>(row * n + column)]) *
                           params.aCode.scale * bScale * epilogue.alpha;
            if (params.beforeBias)
                value =
                    static_cast<double>(codeOf(value, *params.beforeBias) - params.beforeBias->zeroPoint) *
                    params.beforeBias->scale;
            if (epilogue.bias) value += epilogue.bias[column];
            value = activateReference(epilogue.activation, value);
            if (epilogue.residual) value += epilogue.residual[row * epilogue.residualStride + column];
            const std::int64_t index = row * params.cStride + column;
            if (params.result)
                static_cast<std::uint8_t*>(params.c)[index] =
                    static_cast<std::uint8_t>(codeOf(value, *params.result));
            else
                static_cast<float*>(params.c)[index] = static_cast<float>(value);
        }
    }
}

}  // namespace tcompress::kernels
