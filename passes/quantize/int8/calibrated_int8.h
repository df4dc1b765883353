#pragma once
// What 8-bit products do with calibration data: for each input of linear layers the smoothing that lets
// both sides be rounded to 8 bits (smoothing.h), and for each weight codes that repay their errors
// (gptq_solver.h) with the change of the constant behind the layer that is due to both. Between two layers that
// factors pass through (scaling_paths.h) the first takes those of the second's input.

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string_view>

#include "lib/pipeline/pass.h"
#include "passes/quantize/int8/activation_range.h"
#include "passes/quantize/int8/smoothing.h"
#include "passes/quantize/solver/gptq_solver.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

enum class Rounding8 { nearest, gptq };

struct CalibratedInt8Options {
    SmoothingOptions smoothing;
    Rounding8 rounding = Rounding8::gptq;
    /// How constant ranges of inputs are chosen; nothing: they are measured on each run.
    std::optional<ActivationRange> activations = std::nullopt;
    /// Layers whose inputs can be scaled by the layers that make them.
    std::set<const analysis::Site*> scaledBefore;
};

struct PreparedWeight {
    /// Of the input, shared by all weights that read it.
    std::shared_ptr<const Smoothing> smoothing;
    /// Whether the layer that makes the input has taken the smoothing's factors: only shifts are left to be done.
    bool factorsTaken = false;
    /// What the layer's outputs are scaled by for the smoothing of a layer behind it; empty: all 1. Codes have a scale
    /// for each output, which takes it.
    std::vector<float> outputFactors;
    /// Of the scaled weights.
    QuantizedWeights codes;
    /// Scale and zero point of the smoothed input, where they are constants.
    std::optional<kernels::UInt8Parameters> activation;
    /// To be added to the layer's output.
    std::vector<float> constant;
    double error = 0;  ///< expected error of the output relative to the output, held-back samples
};

/// For the weights that calibrated rounding is possible for: matrices that one linear layer multiplies rows
/// with. The others have no entry. All weights that get one must be rounded.
std::map<const TargetWeight*, PreparedWeight> prepareInt8(const std::vector<const TargetWeight*>& weights,
                                                          const ir::Model& model,
                                                          const pipeline::PassContext& context,
                                                          const QuantizationRule& rule,
                                                          const CalibratedInt8Options& options,
                                                          std::string_view pass);

}  // namespace tcompress::passes
