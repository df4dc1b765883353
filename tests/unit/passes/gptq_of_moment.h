#pragma once
// GPTQ from second moments in one call, for tests.

#include "passes/quantize/solver/gptq_solver.h"

namespace tcompress::test {

struct GptqOptions {
    double damp = 0.01;
    passes::ColumnOrder order = passes::ColumnOrder::activation;
    std::int64_t blockSize = passes::kGptqBlock;
};

inline std::optional<passes::QuantizedWeights> gptqOf(std::span<const float> weights,
                                                      const kernels::QuantizationLayout& layout,
                                                      const passes::QuantizationRule& rule,
                                                      std::span<const double> secondMoment,
                                                      const GptqOptions& options = {}) {
    auto grids = passes::quantizeWeights(weights, layout, rule);
    if (!grids) return grids;
    return passes::roundByGptq(weights, std::move(*grids),
                               passes::feedbackFactor(secondMoment, layout.axis, options.damp, options.order),
                               options.blockSize);
}

}  // namespace tcompress::test
