#pragma once
// A part's matrices as products of two at every share of their parameters: one decomposition in the metric of the data
// (low_rank/whitened_svd.h) gives the nearest product of every rank.

#include <string>
#include <vector>

#include "lib/calibration/tensor_store.h"
#include "passes/prune/budget/anatomy.h"
#include "passes/support/unit_readers.h"

namespace tcompress::passes {

struct RankStages {
    struct Matrix {
        std::string weight;                       ///< name of the constant
        calibration::TensorStore::Slot left = 0;  ///< [inputs, ranks], of the largest rank that is asked for
        calibration::TensorStore::Slot right = 0;
        std::vector<double> mean;  ///< of the inputs: where the bias moves; empty where it cannot
    };
    std::vector<Matrix> matrices;
};

/// `evidence` has an entry a weight, of the model as it is.
RankStages rankStages(const std::vector<const TargetWeight*>& weights, const std::vector<const Evidence*>& evidence,
                      std::int64_t largestPercent, std::int64_t multiple, calibration::TensorStore& store);

/// Puts the products at one share into a model of the same weights.
void writeRanks(ir::Edit& edit, const UnitWeights& weights, const RankStages& stages, std::int64_t percent,
                std::int64_t multiple, const calibration::TensorStore& store);

}  // namespace tcompress::passes
