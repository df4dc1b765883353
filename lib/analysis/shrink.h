#pragma once
// Removing positions of leaves: every weight, scale, bias, shape operand, Split size, attribute and graph
// input/output that carries a leaf is cut by the same mask, so that the shapes of the whole model really
// shrink. Verified after the cut by concretising the model again and comparing every tensor's shape with the
// predicted one.

#include <cstdint>
#include <string>
#include <vector>

#include "lib/analysis/axes.h"
#include "lib/ir/model.h"

namespace tcompress::analysis {

struct ShrinkReport {
    std::int64_t weightsCut = 0;
    std::int64_t shapeOperandsPatched = 0;
    std::int64_t attributesPatched = 0;
    std::vector<std::string> notes;  ///< e.g. a KV-cache input or output that became smaller
};

/// Axes that are normalized or averaged over: cut, they are normalized over fewer positions, which is not the same as
/// over masked ones.
enum class NormalizedAxes { refused, cut };

/// Why the leaves of `keep` cannot be cut (frozen, reduced over, visible in a graph output that is no KV
/// cache, …). Empty when they can.
std::vector<std::string> shrinkRefusals(const ir::Model& model, const ModelAxes& axes, const KeepMasks& keep,
                                        NormalizedAxes normalized = NormalizedAxes::refused);

/// Cuts. Throws PassError with the reason and leaves the model unchanged when it cannot be done safely.
/// `axes` must have been made from this model at this revision and is stale afterwards.
ShrinkReport shrink(ir::Model& model, const ModelAxes& axes, const KeepMasks& keep, const std::string& pass,
                    NormalizedAxes normalized = NormalizedAxes::refused);

}  // namespace tcompress::analysis
