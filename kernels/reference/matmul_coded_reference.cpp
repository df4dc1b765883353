#include "kernels/reference/matmul_coded_reference.h"

#include "kernels/packed_codes.h"
#include "kernels/reference/matmul_reference.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

void matmulCodedReference(const CodedMatmul& params) {
    const PackedCodes& weights = *params.weights;
    const Epilogue& epilogue = params.epilogue;
    parallelFor(weights.n, [&](std::int64_t column) {
        std::vector<double> values;
        for (std::int64_t k = 0; k < weights.k; ++k) values.push_back(weights.value(k, column));
        for (std::int64_t row = 0; row < params.m; ++row) {
            double sum = 0;
            for (std::int64_t k = 0; k < weights.k; ++k)
                sum += values[static_cast<std::size_t>(k)] * params.a[row * params.aStride + k];
            sum *= epilogue.alpha;
            if (epilogue.bias) sum += epilogue.bias[column];
            sum = activateReference(epilogue.activation, sum);
            if (epilogue.residual) sum += epilogue.residual[row * epilogue.residualStride + column];
            params.c[row * params.cStride + column] = static_cast<float>(sum);
        }
    });
}

}  // namespace tcompress::kernels
