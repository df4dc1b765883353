#pragma once
// Weights that get one codebook together, and what they need to be fitted together: the codebook is wanted before the
// first of them is fitted in its turn, so all are looked at in the model as it is before.

#include <map>
#include <string>
#include <vector>

#include "lib/data/split.h"
#include "passes/quantize/codebook/codebook_options.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

struct CodebookGroup {
    std::string name;
    std::vector<const TargetWeight*> weights;

    bool isShared() const { return weights.size() > 1; }
};

/// In the order of their first weights.
std::vector<CodebookGroup> codebookGroups(const std::vector<const TargetWeight*>& weights, CodebookSharing sharing);

/// Codes of the group's weights in the same entries, by the weights alone. In the group's order.
std::vector<CodebookMatrix> codedTogether(const CodebookGroup& group, const CodebookOptions& options, Random random);

/// Codes of the weights of those groups that share, by what linear layers multiply them with in the model on the samples.
/// Weights are matrices without a refitRefusal; `view` is what they point into.
std::map<const TargetWeight*, CodebookMatrix> codedTogether(const std::vector<CodebookGroup>& groups,
                                                            const CodebookOptions& options, const ir::Model& model,
                                                            const analysis::TransformerView& view,
                                                            const data::Dataset& samples,
                                                            const pipeline::PassContext& context);

}  // namespace tcompress::passes
