#pragma once
// Gradients as a graph: to a copy of the model nodes are added that compute, from a cotangent of each output (the
// gradient of some number by that output), the gradients of the same number by values inside. They are standard operators
// and com.microsoft's FusedMatMul, run by the executor like the model itself, in one run with it. Reverse-mode
// differentiation (Linnainmaa 1970; Griewank and Walther 2008, "Evaluating Derivatives", chapter 3); each operator's rule
// is in one of the rules_*.cpp.
//
//     train::GradientModel backward = train::withGradients(model, {"logits"}, {site.output->name()}, seen);
//     exec::Executor executor(backward.model, {.inputs = cotangents, .outputs = gradients});

#include <map>
#include <string>
#include <vector>

#include "lib/exec/executor.h"
#include "lib/ir/model.h"

namespace tcompress::train {

/// Type and shape that a value had in a run.
struct SeenValue {
    DType dtype = DType::undefined;
    Shape shape;
    std::vector<std::int64_t> integers;  ///< its elements, of int64 with a few: sizes, axes, places
};
/// By name. Rules need to know along which axes operands were repeated; so the run must have had two samples or more, unless
/// the model takes one only. Its first axis may have another size in later runs.
using SeenValues = std::map<std::string, SeenValue>;

/// Every computed value of the graph, in a run on these feeds without fusion.
SeenValues seenValues(const ir::Model& model, const exec::Feeds& feeds);

struct GradientModel {
    ir::Model model;  ///< the gradients are among its outputs
    /// By the output's name: the value that its cotangent is fed to (ExecutorOptions::inputs).
    std::map<std::string, std::string> cotangents;
    /// By the name of the value asked for: the value that holds its gradient, of its own shape. Values that no output
    /// depends on are missing.
    std::map<std::string, std::string> gradients;
};

/// Throws PassError with what whyNoGradients() says where it says something.
GradientModel withGradients(const ir::Model& model, const std::vector<std::string>& outputs, const std::vector<std::string>& of,
                            const SeenValues& seen);

/// What stands in the way from the values `of` to the outputs: "node 'x' (Conv) has no rule for its gradient"; empty when nothing does.
std::string whyNoGradients(const ir::Model& model, const std::vector<std::string>& outputs, const std::vector<std::string>& of,
                           const SeenValues& seen);

}  // namespace tcompress::train
