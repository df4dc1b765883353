#pragma once
// Which constants of a model learn: matrices of linear layers, and the vectors that are added to values or multiply them
// channel by channel (biases, gains).

#include <map>
#include <string>
#include <vector>

#include "lib/analysis/transformer_view.h"
#include "lib/pipeline/pass.h"
#include "lib/train/adam.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

struct LearnableConstants {
    std::vector<TargetWeight> matrices;
    std::vector<std::string> names;             ///< of matrices, then of vectors
    std::map<std::string, train::Zeros> zeros;  ///< matrices that were pruned
};

/// Matrices of the sites that targets and ignore leave (embedding tables and convolutions are none), with their biases; where no targets are
/// named, all other vectors too. Sites that cannot learn are skipped in the report.
LearnableConstants learnableConstants(const ir::Model& model, const analysis::TransformerView& view, const WeightQuery& query,
                                      pipeline::PassReport& report);

}  // namespace tcompress::passes
