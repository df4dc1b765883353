#include "kernels/reference/matmul_reference.h"

#include <cmath>
#include <numbers>

#include "kernels/packed_weights.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

double finish(const Epilogue& epilogue, double sum, std::int64_t row, std::int64_t column) {
    double value = sum * epilogue.alpha;
    if (epilogue.bias) value += epilogue.bias[column];
    value = activateReference(epilogue.activation, value);
    if (epilogue.residual) value += epilogue.residual[row * epilogue.residualStride + column];
    return value;
}

}  // namespace

double activateReference(Activation activation, double x) {
    const auto sigmoid = [](double value) { return 1.0 / (1.0 + std::exp(-value)); };
    switch (activation) {
        case Activation::none:
            return x;
        case Activation::relu:
            return x < 0.0 ? 0.0 : x;
        case Activation::geluErf:
            return 0.5 * x * (1.0 + std::erf(x / std::numbers::sqrt2));
        case Activation::geluTanh:
            return 0.5 * x *
                   (1.0 + std::tanh(std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
        case Activation::silu:
            return x * sigmoid(x);
        case Activation::quickGelu:
            return x * sigmoid(1.702 * x);
        case Activation::tanh:
            return std::tanh(x);
        case Activation::sigmoid:
            return sigmoid(x);
    }
    return x;
}

void matmulReference(const PackedMatmul& params) {
    const PackedWeights& weights = *params.weights;
    parallelFor(params.m, [&](std::int64_t row) {
        for (std::int64_t column = 0; column < weights.n(); ++column) {
            double sum = 0;
            for (std::int64_t k = 0; k < weights.k(); ++k)
                sum += static_cast<double>(params.a[row * params.aStride + k]) * weights.element(k, column);
            params.c[row * params.cStride + column] =
                static_cast<float>(finish(params.epilogue, sum, row, column));
        }
    });
}

void matmulReference(const BatchedMatmul& params) {
    std::int64_t batches = 1;
    for (const std::int64_t size : params.batch) batches *= size;
    parallelFor(batches, [&](std::int64_t batch) {
        std::int64_t a = 0;
        std::int64_t b = 0;
        std::int64_t c = 0;
        std::int64_t index = batch;
        for (std::size_t d = params.batch.size(); d-- > 0; index /= params.batch[d]) {
            const std::int64_t position = index % params.batch[d];
            a += position * params.aBatchStrides[d];
            b += position * params.bBatchStrides[d];
            c += position * params.cBatchStrides[d];
        }
        Epilogue epilogue = params.epilogue;
        epilogue.residualStride = params.cRowStride;
        if (epilogue.residual) epilogue.residual += c;
        for (std::int64_t row = 0; row < params.m; ++row) {
            for (std::int64_t column = 0; column < params.n; ++column) {
                double sum = 0;
                for (std::int64_t k = 0; k < params.k; ++k)
                    sum += static_cast<double>(
                               params.a[a + row * params.aRowStride + k * params.aColumnStride]) *
                           params.b[b + k * params.bRowStride + column * params.bColumnStride];
                params.c[c + row * params.cRowStride + column] =
                    static_cast<float>(finish(epilogue, sum, row, column));
            }
        }
    });
}

}  // namespace tcompress::kernels
