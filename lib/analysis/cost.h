#pragma once
// Sizes and work of a model by role: parameters, bytes, non-zero weights, multiply-accumulates.

#include <cstdint>
#include <map>
#include <string>

#include "lib/analysis/transformer_view.h"
#include "lib/ir/model.h"

namespace tcompress::analysis {

struct RoleCost {
    /// Elements that were trained: no shape constants, no quantization scales and zero points.
    std::int64_t parameters = 0;
    std::int64_t bytes = 0;
    /// Parameters whose stored bits are not zero (for an integer type with a zero point that is another
    /// number than the weights that are zero).
    std::int64_t nonZero = 0;
    std::int64_t macs = 0;  ///< at the reference input: batch 1 and the sequence length below
};

struct ModelCost {
    std::int64_t parameters = 0;
    std::int64_t bytes = 0;
    std::int64_t nonZero = 0;
    std::int64_t macs = 0;
    /// Reference length MACs are given for; 0 where nothing but the batch and the size of pictures is dynamic.
    std::int64_t sequenceLength = 0;
    /// "embedding", "attention", "ffn", "norm", "classifier", "other".
    std::map<std::string, RoleCost> byRole;
    /// What the products compute in: "float32", "int8" …
    std::map<std::string, std::int64_t> macsByType;
};

/// MACs count every matmul, gemm, convolution and fused attention, activation products included, at batch 1
/// and `sequenceLength` tokens (dynamic dimensions that are no batch; fixed ones stay).
ModelCost cost(const ir::Model& model, const TransformerView& view, std::int64_t sequenceLength = 128);

}  // namespace tcompress::analysis
