#pragma once
// One declaration a pass; each is defined in the file of its name under its family's folder.

#include "lib/pipeline/pass.h"

namespace tcompress::passes {

pipeline::PassInfo removeHeads();         // remove_heads/remove_heads.cpp
pipeline::PassInfo pruneMagnitude();      // prune/magnitude.cpp
pipeline::PassInfo pruneNeuron();         // prune/neuron.cpp
pipeline::PassInfo pruneEmbeddingRows();  // prune/embedding_rows.cpp
pipeline::PassInfo pruneHidden();         // prune/hidden.cpp
pipeline::PassInfo pruneSparsegpt();      // prune/sparsegpt.cpp
pipeline::PassInfo pruneWanda();          // prune/sparsegpt.cpp
pipeline::PassInfo pruneBudget();         // prune/budget.cpp
pipeline::PassInfo dropLayers();          // drop_layers/drop_layers.cpp
pipeline::PassInfo lowRankSvd();          // low_rank/svd.cpp
pipeline::PassInfo lowRankActivationAware();  // low_rank/activation_aware.cpp
pipeline::PassInfo lowRankAttention();    // low_rank/attention.cpp
pipeline::PassInfo lowRankMerge();        // low_rank/merge.cpp
pipeline::PassInfo quantizeDynamic();     // quantize/dynamic.cpp
pipeline::PassInfo quantizeStatic();      // quantize/static.cpp
pipeline::PassInfo quantizeWeightOnly();  // quantize/weight_only.cpp
pipeline::PassInfo quantizeGptq();        // quantize/gptq.cpp
pipeline::PassInfo quantizeAwq();         // quantize/awq.cpp
pipeline::PassInfo quantizeEmbedding();   // quantize/embedding.cpp
pipeline::PassInfo quantizeAuto();        // quantize/auto.cpp
pipeline::PassInfo quantizeHqq();         // quantize/hqq.cpp
pipeline::PassInfo quantizeCodebook();    // quantize/codebook.cpp
pipeline::PassInfo quantizeCast();        // quantize/cast.cpp
pipeline::PassInfo rotate();              // rotate/rotate.cpp
pipeline::PassInfo lowRankSparseResidual();  // low_rank/sparse_residual.cpp
pipeline::PassInfo shareFeedForward();    // share/share_parameters.cpp
pipeline::PassInfo shareAttention();      // share/share_parameters.cpp
pipeline::PassInfo shareTensors();        // share/share_tensors.cpp
pipeline::PassInfo distill();             // distill/distill.cpp
pipeline::PassInfo storeSparse();         // store_sparse/store_sparse.cpp
pipeline::PassInfo foldNorms();           // norm/fold.cpp
pipeline::PassInfo rmsNorms();            // norm/rms.cpp
pipeline::PassInfo affineNorms();         // norm/affine.cpp
pipeline::PassInfo cleanup();             // cleanup/cleanup.cpp

}  // namespace tcompress::passes
