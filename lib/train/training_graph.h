#pragma once
// One graph for a step of training: a model whose weights are fed, losses between its values and targets that are fed,
// and the gradients of their sum by the weights. Run by the executor in one go.

#include <map>
#include <string>
#include <vector>

#include "lib/train/gradient.h"

namespace tcompress::train {

/// How far a value y [rows, channels] is from its target t, row by row with a weight w for each.
enum class Distance {
    squared,     ///< Σ w·‖y − t‖²
    divergence,  ///< Σ w·T²·KL(softmax(t/T) ‖ softmax(y/T)) over the last axis (Hinton et al. 2015)
};

struct LossTerm {
    std::string value;  ///< computed by the model, float32, of one axis or more
    Distance distance = Distance::squared;
    double temperature = 1;  ///< T
};

struct TrainingGraph {
    ir::Model model;
    /// By the name of the constant: the value that is fed in its place, and the gradient by it (missing where no term
    /// depends on it).
    std::map<std::string, std::string> parameters, gradients;
    /// In the order of the terms: the values that their targets [rows…, channels] and row weights [rows…, 1] are fed to (for
    /// a value of one axis: [rows] both). Empty names where no parameter moves the term.
    std::vector<std::string> targets, rowWeights;
};

/// The graph for feeds of just these shapes. Throws PassError where an operator on the way has no rule (whyNoGradients).
TrainingGraph trainingGraph(const ir::Model& model, const std::vector<std::string>& constants, const std::vector<LossTerm>& terms,
                            const exec::Feeds& feeds);

/// A copy of the model in which nodes read these constants through a value of their own that can be fed.
struct FedConstants {
    ir::Model model;
    std::map<std::string, std::string> values;  ///< by the constant's name
};
FedConstants withFedConstants(const ir::Model& model, const std::vector<std::string>& constants);

/// What a term comes to; all tensors float32. Infinite where `value` is not finite in a row that counts.
double lossOf(const LossTerm& term, const Tensor& value, const Tensor& target, const Tensor& rowWeights);

}  // namespace tcompress::train
