#pragma once
// Calibration evidence for weights that are replaced one after another: which layers can be looked at
// together, and the moments of what they read and should put out.

#include <optional>
#include <vector>

#include "lib/calibration/moments.h"
#include "lib/calibration/stream.h"
#include "lib/data/split.h"
#include "lib/pipeline/pass.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

/// Whether the weight is a matrix that linear layers multiply rows of activations with: x · W, or x · Wᵀ.
/// What else there is (convolutions, weights on the left) has no second moments of its own here.
bool multipliesRows(const TargetWeight& weight);

/// Weights of linear layers that read the same values: nothing that one does changes what another sees.
struct LayerStage {
    std::vector<const ir::Value*> inputs;  ///< several when a weight is used at several places
    std::vector<const TargetWeight*> weights;
};

/// In the order in which the model first uses them.
std::vector<LayerStage> stagesOf(const std::vector<const TargetWeight*>& weights);

enum class Targets {
    none,
    /// For a weight that one site uses: its output in the original model, and where that is added to a
    /// residual stream, the same plus what the stream has lost before. Without the constant added to it.
    original
};

/// Of one stage.
struct LayerEvidence {
    calibration::SplitMoments moments;  ///< all weights' targets
    /// For each weight its targets in `moments`.
    std::vector<std::vector<std::size_t>> targets;

    /// The moments with the targets of weight i only.
    calibration::SplitMoments of(std::size_t i) const;
};

/// Samples on their way through two models: the edited one, a copy of the model that is quantized in which
/// constants have changed, shows inputs; the original one shows targets. A value that is not there, or has
/// another shape, is no target.
class EvidenceStreams {
  public:
    /// `view`: of the model that is quantized, which the stages point into.
    EvidenceStreams(const analysis::TransformerView& view, const ir::Model& original, const ir::Model& edited,
                    const data::Split& split, const pipeline::PassContext& context);

    /// Both parts of the split, from the last cut on.
    std::vector<LayerEvidence> collect(const std::vector<LayerStage>& stages, Targets targets);
    /// To be called before a stage, when all layers of earlier blocks are done: what they compute is computed
    /// for the last time and kept (calibration::Stream).
    void advanceTo(const LayerStage& stage);

  private:
    std::vector<calibration::Target> targetsOf(const TargetWeight& weight) const;

    const analysis::TransformerView& view_;
    const ir::Model& original_;
    const ir::Model& edited_;
    const pipeline::PassContext& context_;
    calibration::Stream fit_, heldBack_;
    int block_ = 0;
};

/// A constant added behind a layer that may change, because nothing else reads it.
struct LayerBias {
    ir::Value* value = nullptr;
    Tensor changed;

    void add(const std::vector<float>& change);
    /// Times factors; empty: all 1.
    void scale(const std::vector<float>& factors);
};
std::optional<LayerBias> biasBehind(const TargetWeight& weight);

}  // namespace tcompress::passes
