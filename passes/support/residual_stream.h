#pragma once
// The residual stream of a Transformer: which axis it is, who reads it, and the affine ends of the normalizations on it.

#include <string>
#include <vector>

#include "lib/analysis/transformer_view.h"

namespace tcompress::passes {

struct ResidualStream {
    analysis::AtomId leaf = -1;
    /// Linear layers whose input carries it.
    std::vector<const analysis::Site*> readers;
};

/// What attention and feed-forward layers write to. Throws PassError naming `pass` when there is none, or several, or one of
/// several axes.
ResidualStream residualStream(const analysis::TransformerView& view, const std::string& pass);

/// A product with a constant vector along a leaf, and the sum with another right behind it where there is one: the end of a
/// normalization, fused or spelled out.
struct AffineSite {
    ir::Node* gainNode = nullptr;
    std::size_t gainSlot = 0;
    ir::Node* biasNode = nullptr;  ///< null: no bias
    std::size_t biasSlot = 0;
    ir::Value* output = nullptr;

    std::size_t position() const { return gainNode->position(); }
    const Tensor& gain() const { return *gainNode->input(gainSlot)->constant(); }
    /// Null: no bias.
    const Tensor* bias() const { return biasNode == nullptr ? nullptr : biasNode->input(biasSlot)->constant(); }
};

/// In graph order; float32 vectors that nothing else reads only (analysis::unshareVectors()).
std::vector<AffineSite> affineSites(const ir::Model& model, const analysis::ModelAxes& axes, analysis::AtomId leaf);

}  // namespace tcompress::passes
