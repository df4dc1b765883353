#pragma once
// Cross-layer equalisation: between two layers that positive factors pass through (scaling_paths.h), each channel is
// scaled so that the weights that make it and the weights that read it reach equally far.
//
//   sⱼ = √(max|W1 of output j| / max|W2 of input j|),     W1, b1 of output j / sⱼ,     W2 of input j · sⱼ
//
// What the model computes stays the same but for the rounding of products; no data are needed. Channels of the values
// between come closer to one size, which is what 8-bit codes of the whole tensor want.
//
// Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1.

#include <cstddef>
#include <string_view>

#include "lib/analysis/transformer_view.h"
#include "lib/ir/model.h"

namespace tcompress::passes {

/// Changes the constants of the model, which `view` is of. Returns how many pairs of layers there are.
std::size_t equalizeLayers(ir::Model& model, const analysis::TransformerView& view, std::string_view pass);

}  // namespace tcompress::passes
