#include "lib/analysis/activation.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "lib/analysis/shape_rules.h"
#include "lib/analysis/small_values.h"

namespace tcompress::analysis {

namespace {

using Samples = std::vector<double>;
using Function = double (*)(double);

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double geluErf(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }
double geluTanh(double x) {
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
double silu(double x) { return x * sigmoid(x); }
double relu(double x) { return std::max(x, 0.0); }
double quickGelu(double x) { return x * sigmoid(1.702 * x); }
double hardSwish(double x) { return x * std::clamp(x / 6 + 0.5, 0.0, 1.0); }

constexpr std::pair<ActivationKind, Function> kKnown[] = {
    {ActivationKind::geluErf, geluErf},     {ActivationKind::geluTanh, geluTanh},
    {ActivationKind::silu, silu},           {ActivationKind::relu, relu},
    {ActivationKind::quickGelu, quickGelu}, {ActivationKind::hardSwish, hardSwish},
};

const std::unordered_map<std::string, Function> kUnary = {
    {"Erf", [](double x) { return std::erf(x); }},
    {"Tanh", [](double x) { return std::tanh(x); }},
    {"Sigmoid", sigmoid},
    {"Relu", relu},
    {"Sqrt", [](double x) { return std::sqrt(x); }},
    {"Neg", [](double x) { return -x; }},
    {"Exp", [](double x) { return std::exp(x); }},
    {"Abs", [](double x) { return std::fabs(x); }},
    {"Reciprocal", [](double x) { return 1 / x; }},
    {"HardSwish", hardSwish},
    {"com.microsoft.Gelu", geluErf},
    {"com.microsoft.BiasGelu", geluErf},
    {"com.microsoft.FastGelu", geluTanh},
};

using BinaryFunction = double (*)(double, double);
const std::unordered_map<std::string, BinaryFunction> kBinary = {
    {"Add", [](double a, double b) { return a + b; }},
    {"Sub", [](double a, double b) { return a - b; }},
    {"Mul", [](double a, double b) { return a * b; }},
    {"Div", [](double a, double b) { return a / b; }},
    {"Pow", [](double a, double b) { return std::pow(a, b); }},
    {"Max", [](double a, double b) { return std::max(a, b); }},
    {"Min", [](double a, double b) { return std::min(a, b); }},
};

const std::unordered_set<std::string> kTransparent = {
    "Identity", "Cast",    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
    "Reshape",  "Dropout", "Transpose",      "Squeeze",          "Unsqueeze",
    "Flatten",
};

class Evaluation {
  public:
    Evaluation(const ir::Model& model, const ModelAxes& axes) : model_(model), axes_(axes) {}

    /// Values of `end` when the start values have the given samples; empty when it cannot be evaluated.
    Samples run(std::unordered_map<const ir::Value*, Samples> known, const ir::Value* end) const {
        for (const auto& node : model_.graph().nodes()) {
            if (known.count(end) != 0) break;
            const ir::Value* output = node->output();
            if (output == nullptr || known.count(output) != 0) continue;
            const bool concerned =
                std::any_of(node->inputs().begin(), node->inputs().end(),
                            [&](const ir::Value* v) { return v != nullptr && known.count(v) != 0; });
            if (!concerned) continue;
            if (Samples result = apply(*node, known); !result.empty()) known[output] = std::move(result);
        }
        const auto found = known.find(end);
        return found == known.end() ? Samples{} : found->second;
    }

  private:
    std::optional<double> scalar(const ir::Value* value) const {
        if (!axes_.constant(value)) return {};
        // A constant that is quantized while the model runs stands for the exact number.
        for (const ir::Node* node = value->producer();
             node != nullptr && (node->is("QuantizeLinear") ||
                                 (node->is("DequantizeLinear") && node->input(0)->producer() != nullptr &&
                                  node->input(0)->producer()->is("QuantizeLinear")));
             node = value->producer()) {
            value = node->input(0);
        }
        if (const auto small = axes_.shapes.value(*value); small && small->size() == 1)
            return toDoubles(*small)[0];
        return {};
    }

    Samples apply(const ir::Node& node, const std::unordered_map<const ir::Value*, Samples>& known) const {
        const auto at = [&](std::size_t i) -> const Samples* {
            const auto found = known.find(node.input(i));
            return found == known.end() ? nullptr : &found->second;
        };
        const std::string name = qualifiedName(node);
        const Samples* first = at(0);
        const auto map = [&](auto function) {
            Samples out = *first;
            for (double& v : out) v = function(v);
            return out;
        };
        if (kTransparent.count(name) != 0) return first == nullptr ? Samples{} : *first;
        if (const auto unary = kUnary.find(name); unary != kUnary.end())
            return first == nullptr ? Samples{} : map(unary->second);
        if (const auto binary = kBinary.find(name); binary != kBinary.end())
            return combine(node, binary->second, known);
        if (first == nullptr) return {};
        if (name == "Gelu")
            return node.attributeString("approximate", "none") == "tanh" ? map(geluTanh) : map(geluErf);
        if (name == "com.microsoft.QuickGelu") {
            const double alpha = node.attributeFloat("alpha", 1.702F);
            return map([alpha](double x) { return x * sigmoid(alpha * x); });
        }
        if (name == "Swish") {
            const double alpha = node.attributeFloat("alpha", 1.0F);
            return map([alpha](double x) { return x * sigmoid(alpha * x); });
        }
        if (name == "HardSigmoid") {
            const double alpha = node.attributeFloat("alpha", 0.2F), beta = node.attributeFloat("beta", 0.5F);
            return map([=](double x) { return std::clamp(alpha * x + beta, 0.0, 1.0); });
        }
        if (name == "Clip") {
            const double low = bound(node, 1, "min", -INFINITY), high = bound(node, 2, "max", INFINITY);
            return map([=](double x) { return std::clamp(x, low, high); });
        }
        return {};
    }

    double bound(const ir::Node& node, std::size_t input, const char* attribute, double fallback) const {
        if (node.input(input) != nullptr) return scalar(node.input(input)).value_or(fallback);
        return node.attributeFloat(attribute, static_cast<float>(fallback));
    }

    Samples combine(const ir::Node& node, BinaryFunction function,
                    const std::unordered_map<const ir::Value*, Samples>& known) const {
        const Samples* left = nullptr;
        const Samples* right = nullptr;
        if (const auto found = known.find(node.input(0)); found != known.end()) left = &found->second;
        if (const auto found = known.find(node.input(1)); found != known.end()) right = &found->second;
        if (left == nullptr && right == nullptr) return {};  // a third operand of Max or Min
        if (left != nullptr && right != nullptr) {
            Samples out = *left;
            for (std::size_t i = 0; i < out.size(); ++i) out[i] = function(out[i], (*right)[i]);
            return out;
        }
        const Samples& data = left != nullptr ? *left : *right;
        const std::optional<double> other = scalar(node.input(left != nullptr ? 1 : 0));
        if (!other) return data;  // a bias or scale per channel
        Samples out = data;
        for (double& v : out) v = left != nullptr ? function(v, *other) : function(*other, v);
        return out;
    }

    const ir::Model& model_;
    const ModelAxes& axes_;
};

ActivationKind match(const Samples& x, const Samples& y) {
    if (y.size() != x.size()) return ActivationKind::unknown;
    for (const auto& [kind, function] : kKnown) {
        double worst = 0;
        for (std::size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::fabs(function(x[i]) - y[i]));
        if (worst < 2e-4) return kind;
    }
    return ActivationKind::unknown;
}

/// The pieces that a fused up-and-gate projection is cut into.
std::vector<const ir::Value*> pieces(const ir::Value* packed) {
    std::vector<const ir::Value*> found;
    std::vector<const ir::Value*> open{packed};
    std::unordered_set<const ir::Value*> seen;
    while (!open.empty()) {
        const ir::Value* at = open.back();
        open.pop_back();
        if (!seen.insert(at).second) continue;
        for (const ir::Use& use : at->uses()) {
            if (use.node == nullptr || use.kind != ir::UseKind::input) continue;
            const ir::Node& node = *use.node;
            const bool cuts = node.is("Split") || node.is("Slice") || node.is("Gather");
            if (cuts && use.index != 0) continue;
            for (const ir::Value* output : node.outputs()) {
                if (output == nullptr) continue;
                if (cuts) {
                    found.push_back(output);
                } else if (kTransparent.count(node.opType()) != 0 || node.is("Add") || node.is("Mul")) {
                    open.push_back(output);
                }
            }
        }
    }
    return found;
}

}  // namespace

ActivationCut recogniseActivation(const ir::Model& model, const ModelAxes& axes,
                                  const std::vector<ir::Value*>& starts, const ir::Value* end) {
    const Evaluation evaluation(model, axes);
    Samples x;
    for (int i = -20; i <= 20; ++i) x.push_back(0.3 * i);
    const Samples ones(x.size(), 1);
    std::vector<const ir::Value*> inputs(starts.begin(), starts.end());
    if (inputs.size() == 1) {
        const ActivationKind kind = match(x, evaluation.run({{inputs[0], x}}, end));
        if (kind != ActivationKind::unknown) return {kind, {}};
        inputs = pieces(inputs[0]);
    }
    for (std::size_t varied = 0; varied < inputs.size(); ++varied) {
        std::unordered_map<const ir::Value*, Samples> known;
        for (std::size_t i = 0; i < inputs.size(); ++i) known[inputs[i]] = i == varied ? x : ones;
        const ActivationKind kind = match(x, evaluation.run(std::move(known), end));
        if (kind != ActivationKind::unknown) return {kind, varied};
    }
    return {};
}

}  // namespace tcompress::analysis
