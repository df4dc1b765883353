// Softmax, normalizations and reductions: events on the axis they look at as a whole.

#include <algorithm>

#include "lib/analysis/axis_rules.h"

namespace tcompress::analysis {

namespace {

void softmax(NodeAxes& n) {
    const std::size_t rank = n.shape(0).size();
    const std::size_t axis = n.position(n.node().attributeInt("axis", n.opset() >= 13 ? -1 : 1), rank);
    // Before opset 13 everything from the axis on was one axis.
    const std::size_t end = n.opset() >= 13 ? axis + 1 : rank;
    for (std::size_t k = axis; k < end; ++k) n.event(EventKind::softmax, n.axes(0)[k]);
    n.broadcast({0});
}

/// Statistics outputs: the axes that are still there.
void statistics(NodeAxes& n, std::size_t output, const std::vector<Axis>& data) {
    if (!n.hasOutput(output)) return;
    const Shape& shape = n.outputShape(output);
    std::vector<Axis> axes;
    for (std::size_t k = 0; k < shape.size(); ++k) {
        axes.push_back(k < data.size() && n.store().size(data[k]) == shape[k] ? data[k]
                                                                              : n.store().axis(shape[k]));
    }
    n.set(output, std::move(axes));
}

void layerNorm(NodeAxes& n) {
    const std::vector<Axis> data = n.axes(0);
    for (std::size_t i = 1; i < n.node().inputs().size(); ++i) n.unifyTrailing(i, data);
    n.set(0, data);
    for (std::size_t output = 1; output < n.node().outputs().size(); ++output) statistics(n, output, data);
    const std::size_t axis = n.position(n.node().attributeInt("axis", -1), data.size());
    for (std::size_t k = axis; k < data.size(); ++k) n.event(EventKind::norm, data[k]);
}

void skipLayerNorm(NodeAxes& n) {
    const std::vector<Axis> data = n.axes(0);
    for (std::size_t i = 1; i < n.node().inputs().size(); ++i) n.unifyTrailing(i, data);
    n.set(0, data);
    for (std::size_t output = 1; output < n.node().outputs().size(); ++output) statistics(n, output, data);
    n.event(EventKind::norm, n.lastAxis(0));
}

void channelNorm(NodeAxes& n) {
    n.set(0, n.axes(0));
    for (std::size_t i = 1; i < n.node().inputs().size(); ++i) {
        if (n.has(i) && !n.axes(i).empty() && !n.axes(i)[0].empty()) n.unify(n.axes(i)[0], n.axes(0).at(1));
    }
    for (std::size_t output = 1; output < n.node().outputs().size(); ++output)
        n.setFresh(output, "running statistics");
}

void groupNorm(NodeAxes& n) {
    channelNorm(n);
    n.freeze(n.axes(0).at(1), "normalized in groups");
}

void lpNorm(NodeAxes& n) {
    n.set(0, n.axes(0));
    n.event(EventKind::norm, n.axes(0)[n.position(n.node().attributeInt("axis", -1), n.shape(0).size())]);
}

void reduce(NodeAxes& n, EventKind kind) {
    const std::size_t rank = n.shape(0).size();
    const auto requested = n.operand(1, "axes");
    const bool none = !requested || requested->empty();
    std::vector<bool> reduced(rank, none && n.node().attributeInt("noop_with_empty_axes", 0) == 0);
    if (!none) {
        for (std::int64_t axis : *requested) reduced[n.position(axis, rank)] = true;
    }
    std::vector<Axis> axes;
    for (std::size_t k = 0; k < rank; ++k) {
        if (!reduced[k]) {
            axes.push_back(n.axes(0)[k]);
            continue;
        }
        n.event(kind, n.axes(0)[k]);
        if (n.node().attributeInt("keepdims", 1) != 0) axes.emplace_back();
    }
    n.set(0, std::move(axes));
}

}  // namespace

void addNormAxisRules(AxisRules& rules) {
    rules["Softmax"] = softmax;
    rules["LogSoftmax"] = softmax;
    for (const char* name : {"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization",
                             "com.microsoft.SimplifiedLayerNormalization"}) {
        rules[name] = layerNorm;
    }
    rules["com.microsoft.SkipLayerNormalization"] = skipLayerNorm;
    rules["com.microsoft.SkipSimplifiedLayerNormalization"] = skipLayerNorm;
    rules["BatchNormalization"] = channelNorm;
    rules["InstanceNormalization"] = channelNorm;
    rules["GroupNormalization"] = groupNorm;
    rules["LpNormalization"] = lpNorm;
    rules["ReduceMean"] = [](NodeAxes& n) { reduce(n, EventKind::mean); };
    for (const char* name : {"ReduceSum", "ReduceProd", "ReduceMin", "ReduceMax", "ReduceSumSquare",
                             "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"}) {
        rules[name] = [](NodeAxes& n) { reduce(n, EventKind::reduce); };
    }
}

}  // namespace tcompress::analysis
