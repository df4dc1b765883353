#pragma once
// How certain heads are: the entropy of their attention over the keys they may see. A head that looks everywhere alike
// gives the mean of all values, which others give too; one that picks out single keys does not (Voita et al. 2019,
// "Analyzing Multi-Head Self-Attention", and Michel et al. 2019 look at heads one by one; the entropy is the cheapest such
// look, and knows nothing of what the head's output is used for).

#include <optional>
#include <vector>

#include "lib/data/dataset.h"
#include "lib/pipeline/pass.h"
#include "passes/support/unit_removal.h"

namespace tcompress::passes {

/// For each group, and in it each position of its leaf, the mean over layers, heads and queries that are no padding of
/// 1 − H(p) / log(keys with weight): 0 = uniform, 1 = one key; the model runs once over the samples for all of them. Nothing
/// for a group when a layer's attention weights are no float32 value of the graph (a fused operator).
std::vector<std::optional<std::vector<double>>> attentionCertainty(const ir::Model& model,
                                                                   const analysis::TransformerView& view,
                                                                   const std::vector<UnitLayers>& groups,
                                                                   const data::Dataset& samples,
                                                                   const pipeline::PassContext& context);

/// The same of one tensor [samples, …, queries, keys]: adds certainties and counts by unit; `unitOf[i]` is the unit at index
/// i of `headAxis`. `isToken` has a flag for each sample and query; empty: all count.
struct CertaintySums {
    std::vector<double> certainty, count;
};
void addCertainty(const Tensor& weights, std::size_t headAxis, const std::vector<std::int64_t>& unitOf,
                  const std::vector<bool>& isToken, CertaintySums& sums);

}  // namespace tcompress::passes
