#include "passes/registry.h"

#include "passes/passes.h"

namespace tcompress::passes {

std::span<const pipeline::PassInfo> registry() {
    static const std::vector<pipeline::PassInfo> list = {
        removeHeads(),    pruneMagnitude(),     pruneNeuron(),       pruneHidden(),
        pruneEmbeddingRows(),
        pruneSparsegpt(), pruneWanda(),         pruneBudget(),       dropLayers(),        lowRankSvd(),
        lowRankActivationAware(), lowRankAttention(), lowRankMerge(),  lowRankSparseResidual(),
        shareFeedForward(), shareAttention(), shareTensors(),
        quantizeDynamic(),
        quantizeStatic(), quantizeWeightOnly(), quantizeGptq(), quantizeAwq(),
        quantizeHqq(),    quantizeAuto(),    quantizeEmbedding(),  quantizeCodebook(),
        quantizeCast(),   rotate(),          foldNorms(),          rmsNorms(),         affineNorms(),
        distill(),        storeSparse(),    cleanup(),
    };
    return list;
}

}  // namespace tcompress::passes
