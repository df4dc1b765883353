#pragma once
// GPTQ of the layers of a whole model, one after another, each weight in a form of its own.
//
// Layers are taken in the order in which the model computes them, those that read one value together. Each
// stage runs the calibration samples through the model as it is by then, so that a layer sees the inputs it
// will get, and fits what it rounds to what the original model computes there (gptq_fit.h: how target and
// damping are chosen, on samples that are held back). Constants behind the layers take up what is left of the
// mean error. What is no product with rows of activations (tables, convolutions) is rounded by itself
// (hqq_solver.h).

#include <string>
#include <vector>

#include "lib/data/split.h"
#include "lib/pipeline/pass.h"
#include "passes/quantize/solver/gptq_fit.h"
#include "passes/quantize/storage/weight_storage.h"

namespace tcompress::passes {

/// Share of the samples that choices are made on.
inline constexpr double kGptqHeldBack = 0.2;

/// What a layer is calibrated behind.
enum class LayerSequence {
    behindQuantized,  ///< the quantized layers before it, one run of the samples a stage
    original          ///< the model as it came: all layers in one run
};
enum class BiasCorrection { no, yes };

struct GptqSettings {
    std::vector<double> damps{0.01, 0.1, 1.0};  ///< to choose from, at least one
    ColumnOrder order = ColumnOrder::activation;
    std::int64_t blockSize = 128;
    std::int64_t sweeps = kDescentSweeps;  ///< of descent behind GPTQ
    LayerSequence sequence = LayerSequence::behindQuantized;
    BiasCorrection biases = BiasCorrection::yes;
    GptqTarget target = GptqTarget::automatic;
};

/// A weight and the form that it is to be stored in.
struct StoredWeight {
    const TargetWeight* weight = nullptr;
    const WeightStorage* storage = nullptr;
};

/// Replaces the weights in the model, in one edit, and reports their sites. `view`: of the model; the weights
/// point into it. Weights that cannot be stored so become skipped sites.
void quantizeByGptqInTurn(ir::Model& model, const analysis::TransformerView& view,
                          const pipeline::PassContext& context, const std::string& pass,
                          const GptqSettings& settings, const data::Split& samples,
                          const std::vector<StoredWeight>& weights, pipeline::PassReport& report);

}  // namespace tcompress::passes
