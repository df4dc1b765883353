#pragma once
// One codebook of vectors for several layers, chosen for what the outputs of all of them lose, each relative to itself:
//
//   f = Σ tr(EᵀHE) / tr(WᵀHW)      over layers with weights W, second moments H of their inputs, errors E
//
// Entries are trained on pieces of all layers (vector_codebook.h). In turns, numbers are then chosen by error feedback
// and moved about with the scales, layer by layer (codebook_descent.h), and the entries are moved for all layers at once
// (codebook_entries.h). No turn needs more than one layer in memory.

#include <cstdint>
#include <functional>
#include <vector>

#include "passes/quantize/codebook/vector_codebook.h"

namespace tcompress::passes {

/// One of the layers that share; what is large is asked for when it is needed.
struct SharedLayer {
    std::int64_t inputs = 0, channels = 0;
    std::function<std::vector<float>()> weights;  ///< [inputs, channels]
    /// XᵀX or any multiple of it, [inputs, inputs], with whatever damping it needs. Null: nothing is known.
    std::function<std::vector<double>()> secondMoment;
};

/// A matrix for each layer, all with the same entries. `turns`: 0: numbers are those of the nearest entries.
std::vector<CodebookMatrix> withSharedVectors(const std::vector<SharedLayer>& layers, const VectorShape& shape,
                                              std::int64_t turns, Random random);

}  // namespace tcompress::passes
