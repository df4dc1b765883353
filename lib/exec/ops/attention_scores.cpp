// The matrix of attention scores, for the operators that hand it out.

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/softmax.h"
#include "lib/exec/ops/attention_contrib.h"

namespace tcompress::exec {

namespace {

constexpr float kHidden = -std::numeric_limits<float>::infinity();

/// softcap(scale · q·k) + mask; −∞ for a key that a causal query does not see.
float scoreOf(const AttentionCall& call, float scale, std::int64_t b, std::int64_t head, std::int64_t query,
              std::int64_t key) {
    if (call.causality == kernels::Causality::causal && key > query + call.pastLength) return kHidden;
    const std::int64_t keyHead = head * call.k.heads / call.q.heads;
    const float* q =
        call.q.data + b * call.q.strides.batch + head * call.q.strides.head + query * call.q.strides.row;
    const float* k =
        call.k.data + b * call.k.strides.batch + keyHead * call.k.strides.head + key * call.k.strides.row;
    double sum = 0;
    for (std::int64_t i = 0; i < call.q.size; ++i) sum += static_cast<double>(q[i]) * k[i];
    auto score = static_cast<float>(sum * scale);
    if (call.softcap > 0) score = call.softcap * std::tanh(score / call.softcap);
    if (!call.mask) return score;
    const kernels::HeadStrides& s = call.mask->strides;
    const auto at =
        static_cast<std::size_t>(b * s.batch + head * s.head + query * s.row + key * call.mask->columnStride);
    return score + call.mask->tensor.data<float>()[at];
}

}  // namespace

void attentionScores(const AttentionCall& call, const ScoreMatrix& matrix, ScoreStage stage) {
    const Heads& q = call.q;
    const std::int64_t keys = call.k.rows;
    const float scale = scaleOf(call);
    parallelRanges(
        q.batch * q.heads * q.rows, grainFor(keys * q.size), [&](std::int64_t begin, std::int64_t end) {
            std::vector<float> scores(static_cast<std::size_t>(keys));
            for (std::int64_t row = begin; row < end; ++row) {
                for (std::int64_t key = 0; key < keys; ++key) {
                    scores[static_cast<std::size_t>(key)] = scoreOf(
                        call, scale, row / q.rows / q.heads, row / q.rows % q.heads, row % q.rows, key);
                }
                if (stage == ScoreStage::afterSoftmax)
                    kernels::softmax(
                        {kernels::SoftmaxKind::softmax, scores.data(), scores.data(), 1, keys, 1});
                float* y = matrix.data + row * matrix.rowStride;
                for (std::int64_t key = matrix.firstKey; key < keys; ++key) {
                    const float score = scores[static_cast<std::size_t>(key)];
                    *y++ = score == kHidden ? matrix.hidden : score;
                }
            }
        });
}

}  // namespace tcompress::exec
