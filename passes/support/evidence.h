#pragma once
// Evidence for refits: the reference and the edited model run on the same samples, and sums over tokens relate
// what a layer reads in the one to what it should give by the other.

#include <cstdint>
#include <vector>

#include "lib/analysis/transformer_view.h"
#include "lib/calibration/stream.h"
#include "lib/data/split.h"
#include "lib/pipeline/pass.h"
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
                                      const calibration::Environment& environment);

/// The value of the same name, when it has the same shape as far as that can be known; null otherwise.
const ir::Value* alike(const ir::Model& reference, const ir::Value* value);

/// Whether the reference has a value of the query's output's name and shape: whether it can be fitted to.
bool hasTarget(const ir::Model& reference, const EvidenceQuery& query);

/// The model to compare with: a copy of the one that the run started from, so that what earlier passes lost is
/// part of the problem. A copy of `model` as it is now where the other lacks a value that a query asks for, or where a
/// pass has given names another meaning (a rotated stream, smoothed channels): values on a few samples are then far
/// from each other.
ir::Model referenceFor(const ir::Model& model, const std::vector<EvidenceQuery>& queries,
                       const data::Dataset& samples, const pipeline::PassContext& context);

/// What a walk's rows, and layers that are kept for trials, may take of the memory; the rest waits in temporary files.
inline constexpr std::uint64_t kMemoryForRows = std::uint64_t{16} << 20;

/// Samples on their way through both models (once where they are one and the same), for edits in the order of the graph: what lies before the block that
/// the walk stands at runs once, not once an edit (calibration::Stream).
class EvidenceWalk {
  public:
    /// `view` is of the edited model and stays valid (only constants change).
    EvidenceWalk(const ir::Model& reference, const ir::Model& edited, const analysis::TransformerView& view,
                 const data::Split& samples, const calibration::Environment& environment);

    const ir::Model& reference() const { return reference_; }
    /// As collectEvidence(), from where the walk stands.
    std::vector<Evidence> collect(const std::vector<EvidenceQuery>& queries);
    /// Nothing that the model computes before this block may change afterwards. Blocks without an input of their
    /// own in both models, and earlier ones, leave the walk where it is.
    void advanceTo(int block);
    /// The block that a site is part of, or stands behind.
    int blockOf(const analysis::Site& site) const;

  private:
    const ir::Model& reference_;
    const ir::Model& edited_;
    const analysis::TransformerView& view_;
    Progress& progress_;
    calibration::Stream fit_, held_;
    int block_ = 0;
};

}  // namespace tcompress::passes
