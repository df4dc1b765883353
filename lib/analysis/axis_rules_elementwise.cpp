// Element-wise operators: broadcast axes are the same axes.

#include <numeric>
#include <unordered_set>

#include "lib/analysis/axis_rules.h"
#include "lib/analysis/shape_rules.h"

namespace tcompress::analysis {

namespace {

// All inputs are broadcast together.
const std::unordered_set<std::string> kBroadcast = {
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Mod",
    "Min",
    "Max",
    "Sum",
    "Mean",
    "Where",
    "Equal",
    "Less",
    "LessOrEqual",
    "Greater",
    "GreaterOrEqual",
    "And",
    "Or",
    "Xor",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "PRelu",
    "Identity",
    "Cast",
    "Relu",
    "Erf",
    "Tanh",
    "Sigmoid",
    "Sqrt",
    "Neg",
    "Exp",
    "Log",
    "Abs",
    "Not",
    "IsNaN",
    "IsInf",
    "Reciprocal",
    "Sin",
    "Cos",
    "Tan",
    "Asin",
    "Acos",
    "Atan",
    "Sinh",
    "Cosh",
    "Asinh",
    "Acosh",
    "Atanh",
    "Floor",
    "Ceil",
    "Round",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "Softplus",
    "Softsign",
    "ThresholdedRelu",
    "Gelu",
    "Sign",
    "Mish",
    "Swish",
    "Shrink",
    "BitwiseNot",
    "com.microsoft.Gelu",
    "com.microsoft.FastGelu",
    "com.microsoft.QuickGelu",
    "com.microsoft.BiasGelu",
};

// Only the first input is a tensor of the data; the others are bounds, ratios, types.
const std::unordered_set<std::string> kFirstOnly = {"Clip", "Dropout", "CastLike"};

void elementwise(NodeAxes& n) {
    std::vector<std::size_t> inputs;
    for (std::size_t i = 0; i < n.node().inputs().size(); ++i) {
        if (n.has(i)) inputs.push_back(i);
    }
    n.broadcast(inputs);
}

void firstOnly(NodeAxes& n) {
    n.broadcast({0});
    n.set(1, n.axes(0));
}

// What comes out at a position depends on the positions before it.
void ordered(NodeAxes& n, const std::vector<std::size_t>& positions) {
    for (std::size_t axis : positions) n.freeze(n.axes(0)[axis], "order matters");
    n.broadcast({0});
}

}  // namespace

bool isElementwise(const ir::Node& node) {
    const std::string name = qualifiedName(node);
    return kBroadcast.count(name) != 0 || kFirstOnly.count(name) != 0;
}

void addElementwiseAxisRules(AxisRules& rules) {
    for (const std::string& name : kBroadcast) rules[name] = elementwise;
    for (const std::string& name : kFirstOnly) rules[name] = firstOnly;
    rules["CumSum"] = [](NodeAxes& n) { ordered(n, {n.position(n.ints(1).at(0), n.shape(0).size())}); };
    rules["Trilu"] = [](NodeAxes& n) {
        const std::size_t rank = n.shape(0).size();
        if (rank < 2) throw NotUnderstood("a matrix expected");
        ordered(n, {rank - 2, rank - 1});
    };
}

}  // namespace tcompress::analysis
