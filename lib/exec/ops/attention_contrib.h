#pragma once
// What the attention operators of com.microsoft share beyond attention_support.h.

#include "lib/exec/ops/attention_support.h"

namespace tcompress::exec {

enum class ScoreStage { beforeSoftmax, afterSoftmax };

/// Where scores go: row (batch · heads + head) · queries + query starts at data + row · rowStride and holds
/// the keys from `firstKey` on. Keys that a query does not see get `hidden`.
struct ScoreMatrix {
    float* data = nullptr;
    std::int64_t rowStride = 0;
    std::int64_t firstKey = 0;
    float hidden = 0;
};

/// The scores of a call, a result in its own right of some models (alignments). Plain loops: they are asked
/// for seldom.
void attentionScores(const AttentionCall& call, const ScoreMatrix& matrix, ScoreStage stage);

Runner makeGroupQueryAttention(const NodeInfo& info);

}  // namespace tcompress::exec
