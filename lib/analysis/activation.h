#pragma once
// Which activation function lies between the up and the down projection, however it is spelled: the sub-graph
// is evaluated at sample points and compared with the known functions. Private to lib/analysis.

#include <optional>
#include <vector>

#include "lib/analysis/transformer_view.h"

namespace tcompress::analysis {

struct ActivationCut {
    ActivationKind kind = ActivationKind::unknown;
    /// Which of the start values the function is applied to, when there are several.
    std::optional<std::size_t> gate;
};

/// `starts` are the outputs of the up projections (one fused or plain, or two of a gated layer), `end` is the
/// input of the down projection. Vector constants (biases, scales) are taken as neutral, quantization as
/// exact.
ActivationCut recogniseActivation(const ir::Model& model, const ModelAxes& axes,
                                  const std::vector<ir::Value*>& starts, const ir::Value* end);

}  // namespace tcompress::analysis
