#pragma once
// Attention layers whose values may be turned head by head: what the value projection writes and the output
// projection reads differs by a rotation of each head that nothing between the two can see.
//
//   values · R   →   Softmax(…) · values · R   →   Rᵀ · output projection

#include <string>
#include <vector>

#include "lib/analysis/transformer_view.h"

namespace tcompress::passes {

struct ValueChannels {
    const analysis::Site* values = nullptr;
    const analysis::Site* output = nullptr;
    std::int64_t headSize = 0;  ///< channels of a head lie side by side on both sides
    std::string refusal;        ///< why they cannot be turned; empty when they can
};

/// One entry an attention layer.
std::vector<ValueChannels> valueChannels(const analysis::TransformerView& view);

}  // namespace tcompress::passes
