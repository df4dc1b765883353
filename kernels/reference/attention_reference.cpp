#include "kernels/reference/attention_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr double kUnseen = -std::numeric_limits<double>::infinity();

double score(const Attention& params, std::int64_t batch, std::int64_t head, std::int64_t query,
             std::int64_t key) {
    if (params.causality == Causality::causal && key > query + params.pastLength) return kUnseen;
    if (params.keyLengths && key >= params.keyLengths[batch]) return kUnseen;
    const std::int64_t keyHead = head * params.keyValueHeads / params.queryHeads;
    const float* q =
        params.q + batch * params.qStrides.batch + head * params.qStrides.head + query * params.qStrides.row;
    const float* k =
        params.k + batch * params.kStrides.batch + keyHead * params.kStrides.head + key * params.kStrides.row;
    double sum = 0;
    for (std::int64_t d = 0; d < params.headSize; ++d) sum += static_cast<double>(q[d]) * k[d];
    sum *= params.scale;
    if (params.softcap > 0) sum = params.softcap * std::tanh(sum / params.softcap);
    const std::int64_t offset = batch * params.maskStrides.batch + head * params.maskStrides.head +
                                query * params.maskStrides.row + key * params.maskColumnStride;
    if (params.mask) sum += params.mask[offset];
    if (params.allowed && !params.allowed[offset]) sum = kUnseen;
    return sum;
}

}  // namespace

void attentionReference(const Attention& params) {
    parallelFor(params.batch * params.queryHeads, [&](std::int64_t index) {
        const std::int64_t batch = index / params.queryHeads;
        const std::int64_t head = index % params.queryHeads;
        const std::int64_t keyHead = head * params.keyValueHeads / params.queryHeads;
        const float* v = params.v + batch * params.vStrides.batch + keyHead * params.vStrides.head;
        std::vector<double> weights(static_cast<std::size_t>(params.keyLength));
        for (std::int64_t query = 0; query < params.queryLength; ++query) {
            double max = kUnseen;
            for (std::int64_t key = 0; key < params.keyLength; ++key) {
                weights[static_cast<std::size_t>(key)] = score(params, batch, head, query, key);
                max = std::max(max, weights[static_cast<std::size_t>(key)]);
            }
            double sum = 0;
            for (double& weight : weights) sum += weight = max == kUnseen ? 0.0 : std::exp(weight - max);
            float* out = params.out + batch * params.outStrides.batch + head * params.outStrides.head +
                         query * params.outStrides.row;
            for (std::int64_t d = 0; d < params.valueHeadSize; ++d) {
                double value = 0;
                for (std::int64_t key = 0; key < params.keyLength; ++key) {
                    const double weight = weights[static_cast<std::size_t>(key)];
                    if (weight != 0.0) value += weight * v[key * params.vStrides.row + d];
                }
                out[d] = static_cast<float>(sum == 0.0 ? 0.0 : value / sum);
            }
        }
    });
}

}  // namespace tcompress::kernels
