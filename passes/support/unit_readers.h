#pragma once
// The weights that read a layer's units (heads, neurons), with all it takes to choose units by what their removal costs
// (obs.h) and to fit the weights again (refit.h).

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "passes/support/evidence.h"
#include "passes/support/layer_weights.h"
#include "passes/support/layerwise.h"
#include "passes/support/obs.h"
#include "passes/support/output_curvature.h"
#include "passes/support/unit_removal.h"

namespace tcompress::passes {

/// What one group of layers is to lose, and what came of it.
struct UnitTask {
    UnitLayers layers;
    std::int64_t keep = 0;   ///< units that stay, when they are to be chosen
    std::vector<bool> mask;  ///< which stay; empty = choose
    /// What errors of the readers count by when units are chosen; null: alike.
    std::shared_ptr<const OutputCurvature> curvature;
    /// Why nothing was fitted again; empty when it was.
    std::string refusal;
    /// Error of the output projections on held-back rows, relative to their output, of the model with the units
    /// masked: as it is, and with the weights fitted again.
    double errorBefore = 0, errorAfter = 0;
};

struct UnitReader {
    const TargetWeight* weight = nullptr;
    std::vector<EvidenceQuery> queries;             ///< one a site that shares the weight
    std::vector<std::vector<std::int64_t>> groups;  ///< inputs of each unit
    std::vector<double> metric;                     ///< of its outputs; empty: they count alike
    std::int64_t inputs = 0, outputs = 0;
    LinearLayer start;                 ///< known with the evidence
    BiasFit bias = BiasFit::kept;
    std::optional<Evidence> evidence;

    /// The inputs that are left when only the units of `mask` stay.
    std::vector<std::int64_t> inputsThatStay(const std::vector<bool>& mask) const;
};

/// The weights of a model's layers. The view stays valid and outlives it.
class UnitWeights {
  public:
    explicit UnitWeights(const analysis::TransformerView& view);

    const std::vector<TargetWeight>& all() const { return weights_; }
    /// Null when no weight that can be fitted again has this name.
    const TargetWeight* find(const std::string& constant) const;
    /// The weights that read the task's units; none, and a refusal, when they cannot be fitted again.
    std::vector<UnitReader> readersOf(UnitTask& task) const;

  private:
    const TargetWeight* weightOf(const analysis::Site& site, std::string& refusal) const;

    const analysis::TransformerView& view_;
    pipeline::PassReport unusable_;
    std::vector<TargetWeight> weights_;
};

/// What errors of the layers' readers count by; the report says so where it cannot be had.
std::shared_ptr<const OutputCurvature> readersCurvature(const ir::Model& model, const analysis::TransformerView& view,
                                                        const std::vector<UnitLayers>& layers, const data::Split& samples,
                                                        const pipeline::PassContext& context, pipeline::PassReport& report);

/// The step of a task's readers, at the place of the first of them.
WalkStep stepOf(const std::vector<UnitReader>& readers, std::function<void(EvidenceWalk&)> run);

/// What the readers ask for, and what came of it: one entry a query, in their order.
std::vector<EvidenceQuery> queriesOf(const std::vector<UnitReader>& readers);
void takeEvidence(std::vector<UnitReader>& readers, std::span<Evidence> evidence);
/// Both, at the place where the walk stands.
void gatherEvidence(EvidenceWalk& walk, std::vector<UnitReader>& readers);

/// What the surgeon needs to know of a reader, from sums over rows.
RemovalProblem removalProblem(const UnitReader& reader, const LayerSums& sums, const RefitChoice& choice);

/// A layer on some of the inputs as one on all, the others' weights zero.
LinearLayer spread(const LinearLayer& layer, const std::vector<std::int64_t>& inputs, std::int64_t all);

}  // namespace tcompress::passes
