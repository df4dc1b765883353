#pragma once
// How sparse a model becomes when its file or its accuracy says it.

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "lib/ir/model.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

struct SparsityForSize {
    double sparsity = 0;
    std::int64_t bytes = 0;  ///< of the file
};

/// The least sparsity at which the file without the weights' zeros (store_sparse/stored_constants.h) has no more than
/// `maxBytes`: only how many zeros there are counts, so no weight is pruned to know. `shares` spreads a sparsity over the
/// weights. PassError when the file is larger with all of them zero.
SparsityForSize sparsityForSize(const ir::Model& model, const std::vector<const TargetWeight*>& weights,
                                const std::function<std::vector<double>(double)>& shares, std::int64_t maxBytes,
                                std::string_view pass);

/// Bisects (0, 1) to 1/64 for the most sparsity at which `holds`; 0 when it never does.
double mostSparsityThatHolds(const std::function<bool(double)>& holds);

}  // namespace tcompress::passes
