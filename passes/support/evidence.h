#pragma once
// Evidence for refits: the reference and the edited model run on the same samples, and sums over tokens relate
// what a layer reads in the one to what it should give by the other.

#include <vector>

#include "lib/analysis/transformer_view.h"
#include "lib/data/split.h"
#include "lib/ir/model.h"
#include "lib/support/progress.h"
#include "passes/support/refit.h"

namespace tcompress::passes {

/// A linear layer of the edited model. The reference's values are found by their names there.
struct EvidenceQuery {
    const ir::Value* input = nullptr;
    const ir::Value* output = nullptr;
    /// The residual stream that the output is added to; null when there is none: its error is not looked at.
    const ir::Value* stream = nullptr;
};

/// The query of a site whose output goes into `residualAdd` (null when there is none).
EvidenceQuery evidenceQuery(const analysis::Site& site, const ir::Node* residualAdd);

/// One entry a query. Throws DataError when the data do not fit the model, PassError when a value is missing in
/// the reference or never computed, or is not finite.
std::vector<Evidence> collectEvidence(const ir::Model& reference, const ir::Model& edited,
                                      const std::vector<EvidenceQuery>& queries, const data::Split& samples,
                                      Progress& progress);

}  // namespace tcompress::passes
