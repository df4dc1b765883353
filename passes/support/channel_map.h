#pragma once
// A value scaled and shifted by channels (its last axis) for the layers that read it:
//
//   x  →  x · f + o
//
// A norm that makes x for these layers alone takes both into its own scale and bias (SmoothQuant, AWQ and their
// kin in pre-norm models), and the graph keeps its operators. Elsewhere, in post-norm models above all, where the
// residual stream reads x too, they become operators of their own: Mul and Add. Exact but for the rounding of
// products.

#include <span>
#include <string>
#include <vector>

#include "lib/ir/edit.h"

namespace tcompress::passes {

struct ChannelMap {
    std::vector<float> factors;  ///< f; empty: all 1
    std::vector<float> offsets;  ///< o; empty: all 0

    bool isIdentity() const { return factors.empty() && offsets.empty(); }
};

/// Whether constants can take the factors, and the offsets, of a map of `channels` channels.
struct ChannelMapPlaces {
    bool factors = false;
    bool offsets = false;
};
/// `readers`: the nodes that are to see the mapped value.
ChannelMapPlaces placesForMap(const ir::Value& x, std::span<const ir::Node* const> readers,
                              std::size_t channels);

/// What the readers have to read in x's place: x itself where constants took the whole map, else new nodes'
/// output. To be called once for a value in an edit.
ir::Value* mapChannels(ir::Edit& edit, ir::Value* x, std::span<const ir::Node* const> readers,
                       const ChannelMap& map);

}  // namespace tcompress::passes
