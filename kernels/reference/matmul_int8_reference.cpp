#include "kernels/reference/matmul_int8_reference.h"

#include <algorithm>
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

void matmulInt8Reference(const ScaledInt8Matmul& params) {
    const std::int64_t n = params.weights->n;
    std::vector<std::int32_t> sums(static_cast<std::size_t>(params.m * n));
    Int8Matmul product{params.a,
                       params.aType,
                       params.aStride,
                       params.m,
                       {&params.aZeroPoint, 1},
                       params.weights,
                       sums.data(),
                       n};
    matmulInt8Reference(product);
    const Epilogue& epilogue = params.epilogue;
    for (std::int64_t row = 0; row < params.m; ++row) {
        for (std::int64_t column = 0; column < n; ++column) {
            const float bScale =
                params.bScales[params.bScales.size() > 1 ? static_cast<std::size_t>(column) : 0];
            double value = static_cast<double>(sums[static_cast<std::size_t>(row * n + column)]) *
                           params.aScale * bScale * epilogue.alpha;
            if (epilogue.bias) value += epilogue.bias[column];
            value = activateReference(epilogue.activation, value);
            if (epilogue.residual) value += epilogue.residual[row * epilogue.residualStride + column];
            params.c[row * params.cStride + column] = static_cast<float>(value);
        }
    }
}

}  // namespace tcompress::kernels
