// Reductions and what is built of them: softmax, normalizations.

#include <algorithm>
#include <numeric>

#include "lib/train/rules.h"

namespace tcompress::train {
namespace {

/// Axes of a reduction, as an attribute (up to opset 12 or 17) or an operand; all where none are given.
std::optional<std::vector<std::int64_t>> axesOf(const ir::Node& node, const SeenValues& seen) {
    const auto data = seen.find(node.input(0) == nullptr ? "" : node.input(0)->name());
    if (data == seen.end()) return std::nullopt;
    const auto rank = static_cast<std::int64_t>(data->second.shape.size());
    std::optional<std::vector<std::int64_t>> axes = node.attributeInts("axes");
    if (!axes && node.input(1) != nullptr) {
        axes = integersOf(node.input(1), seen);
        if (!axes) return std::nullopt;
    }
    if (!axes || axes->empty()) {
        if (node.attributeInt("noop_with_empty_axes", 0) != 0) return std::vector<std::int64_t>{};
        axes.emplace(static_cast<std::size_t>(rank));
        std::iota(axes->begin(), axes->end(), 0);
    }
    for (std::int64_t& axis : *axes) axis = countedAxis(axis, rank);
    return axes;
}

/// The output, or its gradient, with the reduced axes put back.
ir::Value* withAxes(NodeGradient& g, ir::Value* value) {
    if (g.node().attributeInt("keepdims", 1) != 0) return value;
    Shape shape = g.shapeOf(g.x());
    const std::vector<std::int64_t> axes = *axesOf(g.node(), g.seen());
    for (const std::int64_t axis : axes) shape[static_cast<std::size_t>(axis)] = 1;
    if (!shape.empty() && shape[0] != 1) shape[0] = -1;
    return g.emit("Reshape", {value, g.integers(shape)});
}

ir::Value* repeated(NodeGradient& g, ir::Value* value) { return g.emit("Expand", {value, g.emit("Shape", {g.x()})}); }

void reduceSum(NodeGradient& g) { g.add(0, repeated(g, withAxes(g, g.dy()))); }

void reduceMean(NodeGradient& g) {
    const std::vector<std::int64_t> axes = *axesOf(g.node(), g.seen());
    float count = 1;
    for (const std::int64_t axis : axes) count *= static_cast<float>(g.shapeOf(g.x())[static_cast<std::size_t>(axis)]);
    g.add(0, repeated(g, g.emit("Mul", {withAxes(g, g.dy()), g.number(1 / count)})));
}

/// √Σx²: x/y.
void reduceNorm(NodeGradient& g) {
    g.add(0, g.emit("Mul", {g.x(), withAxes(g, g.emit("Div", {g.dy(), g.y()}))}));
}

void reduceSquares(NodeGradient& g) {
    g.add(0, g.emit("Mul", {g.x(), withAxes(g, g.emit("Mul", {g.dy(), g.number(2)}))}));
}

std::int64_t softmaxAxis(const ir::Node& node, std::int64_t opset, std::int64_t rank) {
    return countedAxis(node.attributeInt("axis", opset < 13 ? 1 : -1), rank);
}

/// y·(dy − Σ dy·y).
void softmax(NodeGradient& g) {
    const std::int64_t axis = softmaxAxis(g.node(), g.opset(), g.rankOf(g.y()));
    ir::Value* shared = g.sum(g.emit("Mul", {g.dy(), g.y()}), {axis});
    g.add(0, g.emit("Mul", {g.y(), g.emit("Sub", {g.dy(), shared})}));
}

/// dy − eʸ·Σ dy.
void logSoftmax(NodeGradient& g) {
    const std::int64_t axis = softmaxAxis(g.node(), g.opset(), g.rankOf(g.y()));
    g.add(0, g.emit("Sub", {g.dy(), g.emit("Mul", {g.emit("Exp", {g.y()}), g.sum(g.dy(), {axis})})}));
}

enum class Centre { mean, zero };

/// z̃·scale + bias with z̃ = (z − mean)·r, r = 1/√(variance + ε); without a centre the mean is 0.
struct Normalized {
    ir::Value* r;
    ir::Value* whitened;  ///< z̃

    Normalized(NodeGradient& g, ir::Value* z, Centre centre, const std::vector<std::int64_t>& axes, float epsilon) {
        ir::Value* centred = centre == Centre::mean ? g.emit("Sub", {z, g.mean(z, axes)}) : z;
        ir::Value* variance = g.mean(g.emit("Mul", {centred, centred}), axes);
        r = g.emit("Reciprocal", {g.emit("Sqrt", {g.emit("Add", {variance, g.number(epsilon)})})});
        whitened = g.emit("Mul", {centred, r});
    }

    /// Gradient by z where `dy` is by the result: r·(d − mean(d) − z̃·mean(d·z̃)) with d = dy·scale; without a centre its
    /// term is not there.
    ir::Value* back(NodeGradient& g, ir::Value* dy, ir::Value* scale, Centre centre, const std::vector<std::int64_t>& axes) const {
        ir::Value* d = scale == nullptr ? dy : g.emit("Mul", {dy, scale});
        ir::Value* along = g.emit("Mul", {whitened, g.mean(g.emit("Mul", {d, whitened}), axes)});
        ir::Value* inner = g.emit("Sub", {d, along});
        if (centre == Centre::mean) inner = g.emit("Sub", {inner, g.mean(d, axes)});
        return g.emit("Mul", {inner, r});
    }

    /// Gradients by the operands `scale` and `bias` (0: there is none).
    void addScaleAndBias(NodeGradient& g, ir::Value* dy, std::size_t scale, std::size_t bias) const {
        if (g.wants(scale)) g.addBroadcast(scale, g.emit("Mul", {dy, whitened}));
        if (bias != 0 && g.wants(bias)) g.addBroadcast(bias, dy);
    }
};

std::vector<std::int64_t> axesFrom(std::int64_t first, std::int64_t rank) {
    std::vector<std::int64_t> axes;
    for (std::int64_t axis = countedAxis(first, rank); axis < rank; ++axis) axes.push_back(axis);
    return axes;
}

void normalization(NodeGradient& g, Centre centre) {
    const auto axes = axesFrom(g.node().attributeInt("axis", -1), g.rankOf(g.x()));
    const Normalized form(g, g.x(), centre, axes, g.node().attributeFloat("epsilon", 1e-5F));
    g.add(0, form.back(g, g.dy(), g.x(1), centre, axes));
    form.addScaleAndBias(g, g.dy(), 1, centre == Centre::mean ? 2 : 0);
}
void layerNormalization(NodeGradient& g) { normalization(g, Centre::mean); }
void rmsNormalization(NodeGradient& g) { normalization(g, Centre::zero); }

/// Input + skip (+ sumBias), normalized; the sum may be an output too. `normBias` is 0 where there is none.
void skipNormalization(NodeGradient& g, std::size_t normBias, std::size_t sumBias, Centre centre) {
    ir::Value* z = g.emit("Add", {g.x(0), g.x(1)});
    if (g.x(sumBias) != nullptr) z = g.emit("Add", {z, g.x(sumBias)});
    ir::Value* dz = g.dy(3);
    if (g.dy(0) != nullptr) {
        const std::vector<std::int64_t> axes = {g.rankOf(g.x()) - 1};
        const Normalized form(g, z, centre, axes, g.node().attributeFloat("epsilon", 1e-5F));
        ir::Value* own = form.back(g, g.dy(0), g.x(2), centre, axes);
        dz = dz == nullptr ? own : g.emit("Add", {dz, own});
        form.addScaleAndBias(g, g.dy(0), 2, normBias);
    }
    if (dz == nullptr) return;
    g.add(0, dz);
    for (const std::size_t i : {std::size_t{1}, sumBias})
        if (g.wants(i)) g.addBroadcast(i, dz);
}
void skipLayerNormalization(NodeGradient& g) { skipNormalization(g, 3, 4, Centre::mean); }
void skipRmsNormalization(NodeGradient& g) { skipNormalization(g, 0, 3, Centre::zero); }

/// Only the first output has a rule.
bool isPlain(const ir::Node& node) {
    for (std::size_t i = 1; i < node.outputs().size(); ++i)
        if (node.output(i) != nullptr && !node.output(i)->uses().empty()) return false;
    return true;
}

}  // namespace

Rule normRule(const ir::Model& model, const ir::Node& node, const SeenValues& seen) {
    const bool isReduction = node.is("ReduceSum") || node.is("ReduceMean") || node.is("ReduceL2") || node.is("ReduceSumSquare");
    if (isReduction && !axesOf(node, seen)) return nullptr;
    if (node.is("ReduceSum")) return reduceSum;
    if (node.is("ReduceMean")) return reduceMean;
    if (node.is("ReduceL2")) return reduceNorm;
    if (node.is("ReduceSumSquare")) return reduceSquares;
    if (node.is("Softmax") || node.is("LogSoftmax")) {
        const auto y = seen.find(node.output()->name());
        if (y == seen.end()) return nullptr;
        const auto rank = static_cast<std::int64_t>(y->second.shape.size());
        // Until opset 13 all axes from the given one on were one.
        if (model.opset() < 13 && softmaxAxis(node, model.opset(), rank) != rank - 1) return nullptr;
        return node.is("Softmax") ? softmax : logSoftmax;
    }
    if (node.is("LayerNormalization")) return isPlain(node) ? layerNormalization : nullptr;
    if (node.is("RMSNormalization")) return rmsNormalization;
    if (node.opType() == "SimplifiedLayerNormalization") return isPlain(node) ? rmsNormalization : nullptr;
    if (node.is("com.microsoft", "SkipLayerNormalization")) return skipLayerNormalization;
    if (node.is("com.microsoft", "SkipSimplifiedLayerNormalization")) return skipRmsNormalization;
    return nullptr;
}

}  // namespace tcompress::train
