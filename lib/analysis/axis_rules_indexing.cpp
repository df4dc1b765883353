// Operators that read or write by index: an indexed axis keeps its positions, so it is frozen.

#include "lib/analysis/axis_rules.h"

namespace tcompress::analysis {

namespace {

constexpr const char* kIndexed = "indexed";

void gather(NodeAxes& n) {
    const std::vector<Axis> data = n.axes(0);
    const std::size_t axis = n.position(n.node().attributeInt("axis", 0), data.size());
    std::vector<Axis> axes(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(axis));
    const std::vector<Axis>& indices = n.axes(1);
    axes.insert(axes.end(), indices.begin(), indices.end());
    axes.insert(axes.end(), data.begin() + static_cast<std::ptrdiff_t>(axis) + 1, data.end());
    n.freeze(data[axis], kIndexed);
    n.event(EventKind::gather, data[axis]);
    n.set(0, std::move(axes));
}

void gatherNd(NodeAxes& n) {
    const std::vector<Axis> data = n.axes(0);
    const std::vector<Axis> indices = n.axes(1);
    const std::int64_t given = n.node().attributeInt("batch_dims", 0);
    const auto rank = static_cast<std::int64_t>(data.size());
    if (indices.empty() || given < 0 || given > rank || n.shape(1).back() > rank - given)
        throw NotUnderstood("indices that do not fit");
    const auto batch = static_cast<std::size_t>(given), count = static_cast<std::size_t>(n.shape(1).back());
    for (std::size_t i = 0; i < batch + count; ++i) n.freeze(data[i], kIndexed);
    std::vector<Axis> axes(indices.begin(), indices.end() - 1);
    axes.insert(axes.end(), data.begin() + static_cast<std::ptrdiff_t>(batch + count), data.end());
    n.set(0, std::move(axes));
}

void gatherElements(NodeAxes& n) {
    const Shape& data = n.shape(0);
    const Shape& indices = n.shape(1);
    if (indices.size() != data.size()) throw NotUnderstood("indices of another rank");
    const std::size_t axis = n.position(n.node().attributeInt("axis", 0), data.size());
    for (std::size_t i = 0; i < data.size(); ++i) {
        if (i != axis && data[i] == indices[i]) {
            n.unify(n.axes(0)[i], n.axes(1)[i]);
        } else {
            n.freeze(n.axes(0)[i], kIndexed);
        }
    }
    n.set(0, n.axes(1));
}

void scatter(NodeAxes& n) {
    n.freezeInput(0, kIndexed);
    n.freezeInput(2, kIndexed);
    n.set(0, n.axes(0));
}

void selectAlong(NodeAxes& n, std::int64_t fallbackAxis) {
    const std::size_t axis = n.position(n.node().attributeInt("axis", fallbackAxis), n.shape(0).size());
    n.event(EventKind::reduce, n.axes(0)[axis]);
    for (std::size_t output = 0; output < n.node().outputs().size(); ++output) {
        if (!n.hasOutput(output)) continue;
        std::vector<Axis> axes = n.axes(0);
        const Shape& shape = n.outputShape(output);
        if (shape.size() < axes.size()) {
            axes.erase(axes.begin() + static_cast<std::ptrdiff_t>(axis));
        } else {
            axes[axis] = n.store().axis(shape[axis]);
        }
        n.set(output, std::move(axes));
    }
}

void fresh(NodeAxes& n) {
    n.freezeInput(0, kIndexed);
    n.setFresh(0);
}

}  // namespace

void addIndexingAxisRules(AxisRules& rules) {
    rules["Gather"] = gather;
    rules["GatherND"] = gatherNd;
    rules["GatherElements"] = gatherElements;
    for (const char* name : {"ScatterND", "ScatterElements", "Scatter", "TensorScatter"})
        rules[name] = scatter;
    rules["ArgMax"] = [](NodeAxes& n) { selectAlong(n, 0); };
    rules["ArgMin"] = [](NodeAxes& n) { selectAlong(n, 0); };
    rules["TopK"] = [](NodeAxes& n) { selectAlong(n, -1); };
    rules["NonZero"] = fresh;
    rules["OneHot"] = [](NodeAxes& n) { n.setFresh(0); };
}

}  // namespace tcompress::analysis
