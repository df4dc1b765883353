// Operators that act on each element by itself.

#include <cmath>
#include <map>
#include <numbers>
#include <string_view>

#include "lib/train/rules.h"

namespace tcompress::train {
namespace {

constexpr float kTwoOverRootPi = 1.1283792F, kRootHalf = 0.70710678F, kOneOverRootTwoPi = 0.39894228F;

void pass(NodeGradient& g) { g.add(0, g.dy()); }

void add(NodeGradient& g) {
    g.addBroadcast(0, g.dy());
    g.addBroadcast(1, g.dy());
}

void subtract(NodeGradient& g) {
    g.addBroadcast(0, g.dy());
    if (g.wants(1)) g.addBroadcast(1, g.emit("Neg", {g.dy()}));
}

void multiply(NodeGradient& g) {
    if (g.wants(0)) g.addBroadcast(0, g.emit("Mul", {g.dy(), g.x(1)}));
    if (g.wants(1)) g.addBroadcast(1, g.emit("Mul", {g.dy(), g.x(0)}));
}

void divide(NodeGradient& g) {
    ir::Value* first = g.emit("Div", {g.dy(), g.x(1)});
    g.addBroadcast(0, first);
    if (g.wants(1)) g.addBroadcast(1, g.emit("Neg", {g.emit("Mul", {first, g.y()})}));
}

void power(NodeGradient& g) {
    const float exponent = *constantNumber(g.x(1));
    ir::Value* slope = exponent == 2 ? g.x(0) : g.emit("Pow", {g.x(0), g.number(exponent - 1)});
    g.addBroadcast(0, g.emit("Mul", {g.dy(), g.emit("Mul", {slope, g.number(exponent)})}));
}

/// dy · slope.
void scaled(NodeGradient& g, ir::Value* slope) { g.add(0, g.emit("Mul", {g.dy(), slope})); }
/// dy where `condition` holds.
void masked(NodeGradient& g, std::size_t i, ir::Value* condition) {
    g.addBroadcast(i, g.emit("Where", {condition, g.dy(), g.number(0)}));
}

void negate(NodeGradient& g) { g.add(0, g.emit("Neg", {g.dy()})); }
void reciprocal(NodeGradient& g) { scaled(g, g.emit("Neg", {g.emit("Mul", {g.y(), g.y()})})); }
void squareRoot(NodeGradient& g) { g.add(0, g.emit("Div", {g.emit("Mul", {g.dy(), g.number(0.5F)}), g.y()})); }
void exponential(NodeGradient& g) { scaled(g, g.y()); }
void logarithm(NodeGradient& g) { g.add(0, g.emit("Div", {g.dy(), g.x()})); }
void absolute(NodeGradient& g) { scaled(g, g.emit("Sign", {g.x()})); }

/// exp(−x²/2)
ir::Value* bell(NodeGradient& g, ir::Value* x) {
    return g.emit("Exp", {g.emit("Mul", {g.emit("Mul", {x, x}), g.number(-0.5F)})});
}

void errorFunction(NodeGradient& g) {
    scaled(g, g.emit("Mul", {g.emit("Exp", {g.emit("Neg", {g.emit("Mul", {g.x(), g.x()})})}), g.number(kTwoOverRootPi)}));
}

ir::Value* oneMinus(NodeGradient& g, ir::Value* value) { return g.emit("Sub", {g.number(1), value}); }

void hyperbolicTangent(NodeGradient& g) { scaled(g, oneMinus(g, g.emit("Mul", {g.y(), g.y()}))); }
void sigmoid(NodeGradient& g) { scaled(g, g.emit("Mul", {g.y(), oneMinus(g, g.y())})); }
void softplus(NodeGradient& g) { scaled(g, g.emit("Sigmoid", {g.x()})); }
void rectifier(NodeGradient& g) { masked(g, 0, g.emit("Greater", {g.x(), g.number(0)})); }

void leakyRectifier(NodeGradient& g) {
    ir::Value* isPositive = g.emit("Greater", {g.x(), g.number(0)});
    scaled(g, g.emit("Where", {isPositive, g.number(1), g.number(g.node().attributeFloat("alpha", 0.01F))}));
}

/// x·Φ(x): Φ(x) + x·φ(x).
ir::Value* slopeOfGelu(NodeGradient& g, ir::Value* x) {
    ir::Value* erf = g.emit("Erf", {g.emit("Mul", {x, g.number(kRootHalf)})});
    ir::Value* part = g.emit("Mul", {g.emit("Add", {erf, g.number(1)}), g.number(0.5F)});
    return g.emit("Add", {part, g.emit("Mul", {x, g.emit("Mul", {bell(g, x), g.number(kOneOverRootTwoPi)})})});
}

/// x/2·(1 + tanh u), u = √(2/π)·(x + 0.044715·x³): (1 + t)/2 + x/2·(1 − t²)·u′.
ir::Value* slopeOfTanhGelu(NodeGradient& g, ir::Value* x) {
    const auto a = static_cast<float>(std::sqrt(2 / std::numbers::pi));
    constexpr float kCubic = 0.044715F;
    ir::Value* square = g.emit("Mul", {x, x});
    const auto polynomial = [&](float factor) { return g.emit("Mul", {g.emit("Add", {g.emit("Mul", {square, g.number(factor)}), g.number(1)}), g.number(a)}); };
    ir::Value* t = g.emit("Tanh", {g.emit("Mul", {x, polynomial(kCubic)})});
    ir::Value* slope = g.emit("Mul", {g.emit("Mul", {x, oneMinus(g, g.emit("Mul", {t, t}))}), polynomial(3 * kCubic)});
    return g.emit("Mul", {g.emit("Add", {g.emit("Add", {t, g.number(1)}), slope}), g.number(0.5F)});
}

/// x·σ(αx): σ + αx·σ·(1 − σ).
ir::Value* slopeOfSwish(NodeGradient& g, ir::Value* x, float alpha) {
    ir::Value* scaledInput = g.emit("Mul", {x, g.number(alpha)});
    ir::Value* s = g.emit("Sigmoid", {scaledInput});
    return g.emit("Mul", {s, g.emit("Add", {g.emit("Mul", {scaledInput, oneMinus(g, s)}), g.number(1)})});
}

void gelu(NodeGradient& g) {
    scaled(g, g.node().attributeString("approximate", "none") == "tanh" ? slopeOfTanhGelu(g, g.x()) : slopeOfGelu(g, g.x()));
}
void swish(NodeGradient& g) { scaled(g, slopeOfSwish(g, g.x(), g.node().attributeFloat("alpha", 1))); }
void quickGelu(NodeGradient& g) { scaled(g, slopeOfSwish(g, g.x(), g.node().attributeFloat("alpha", 1.702F))); }

void biased(NodeGradient& g, ir::Value* (*slope)(NodeGradient&, ir::Value*)) {
    ir::Value* x = g.x(1) != nullptr ? g.emit("Add", {g.x(0), g.x(1)}) : g.x(0);
    ir::Value* dx = g.emit("Mul", {g.dy(), slope(g, x)});
    g.addBroadcast(0, dx);
    if (g.wants(1)) g.addBroadcast(1, dx);
}
void biasGelu(NodeGradient& g) { biased(g, slopeOfGelu); }
void fastGelu(NodeGradient& g) { biased(g, slopeOfTanhGelu); }

void clip(NodeGradient& g) {
    // At a bound nothing moves.
    masked(g, 0, g.emit("Equal", {g.x(), g.y()}));
}

/// Minimum and maximum of any number: to each that is the result (ties share it in full, as a subgradient may).
void extremum(NodeGradient& g) {
    for (std::size_t i = 0; i < g.node().inputs().size(); ++i)
        if (g.wants(i)) masked(g, i, g.emit("Equal", {g.y(), g.x(i)}));
}

void choose(NodeGradient& g) {
    if (g.wants(1)) g.addBroadcast(1, g.emit("Where", {g.x(0), g.dy(), g.number(0)}));
    if (g.wants(2)) g.addBroadcast(2, g.emit("Where", {g.x(0), g.number(0), g.dy()}));
}

const std::map<std::string_view, Rule> kRules = {
    {"Identity", pass},       {"Dropout", pass},        {"Cast", pass},           {"Add", add},
    {"Sub", subtract},        {"Mul", multiply},        {"Div", divide},          {"Pow", power},
    {"Neg", negate},          {"Reciprocal", reciprocal}, {"Sqrt", squareRoot},   {"Exp", exponential},
    {"Log", logarithm},       {"Abs", absolute},        {"Erf", errorFunction},   {"Tanh", hyperbolicTangent},
    {"Sigmoid", sigmoid},     {"Softplus", softplus},   {"Relu", rectifier},      {"LeakyRelu", leakyRectifier},
    {"Gelu", gelu},           {"Swish", swish},         {"Clip", clip},           {"Min", extremum},
    {"Max", extremum},        {"Where", choose},
};
const std::map<std::string_view, Rule> kContribRules = {
    {"Gelu", gelu}, {"QuickGelu", quickGelu}, {"BiasGelu", biasGelu}, {"FastGelu", fastGelu}};

}  // namespace

Rule elementwiseRule(const ir::Node& node, const SeenValues& seen) {
    const auto& rules = node.domain().empty() ? kRules : kContribRules;
    const auto found = rules.find(node.opType());
    if (found == rules.end()) return nullptr;
    if (node.is("Pow") && !constantNumber(node.input(1))) return nullptr;
    if (node.is("Cast")) {
        const auto from = seen.find(node.input(0)->name()), to = seen.find(node.output()->name());
        if (from == seen.end() || to == seen.end() || from->second.dtype != to->second.dtype) return nullptr;
    }
    return found->second;
}

}  // namespace tcompress::train
