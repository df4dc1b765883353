// Operators that move elements. Reshape and its relatives flatten the axes to their atoms and deal them out
// again, which is exact for row-major data; Concat makes sums, Split and Slice cut them.

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <unordered_set>

#include "lib/analysis/axis_rules.h"
#include "lib/analysis/shape_rules.h"

namespace tcompress::analysis {

namespace {

void regroup(NodeAxes& n) {
    const Shape& out = n.outputShape(0);
    if (elementCount(out) == 0) {
        n.setFresh(0);
        return;
    }
    Axis rest;
    for (const Axis& axis : n.axes(0)) rest.insert(rest.end(), axis.begin(), axis.end());
    std::vector<Axis> axes;
    for (std::int64_t size : out) {
        auto [part, after] = n.store().take(rest, size);
        axes.push_back(std::move(part));
        rest = std::move(after);
    }
    n.set(0, std::move(axes));
}

void transpose(NodeAxes& n) {
    const std::vector<Axis>& in = n.axes(0);
    std::vector<std::int64_t> order(in.size());
    std::iota(order.rbegin(), order.rend(), 0);
    if (auto perm = n.node().attributeInts("perm")) order = *perm;
    std::vector<Axis> axes;
    for (std::int64_t k : order) axes.push_back(in[n.position(k, in.size())]);
    n.set(0, std::move(axes));
}

void concat(NodeAxes& n) {
    const Shape& out = n.outputShape(0);
    const std::size_t axis = n.position(n.node().attributeInt("axis", 0), out.size());
    std::vector<std::size_t> present;
    for (std::size_t i = 0; i < n.node().inputs().size(); ++i) {
        if (n.shape(i).size() != out.size()) throw NotUnderstood("pieces of different ranks");
        if (elementCount(n.shape(i)) > 0) present.push_back(i);
    }
    const std::size_t first = present.empty() ? 0 : present.front();
    std::vector<Axis> axes;
    for (std::size_t k = 0; k < out.size(); ++k) {
        if (k == axis) {
            std::vector<Axis> parts;
            for (std::size_t i : present) parts.push_back(n.axes(i)[k]);
            axes.push_back(present.empty() ? n.store().axis(out[k]) : n.store().concatenate(parts));
            continue;
        }
        // Pieces of length zero (an empty cache) tie the other axes all the same.
        for (std::size_t i = 0; i < n.node().inputs().size(); ++i) {
            if (i != first && n.shape(i)[k] == out[k]) n.unify(n.axes(first)[k], n.axes(i)[k]);
        }
        axes.push_back(n.axes(first)[k]);
    }
    n.set(0, std::move(axes));
}

void split(NodeAxes& n) {
    const std::size_t axis = n.position(n.node().attributeInt("axis", 0), n.shape(0).size());
    const auto sizes = n.operand(1, "split");
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < n.node().outputs().size(); ++i) {
        // The size of an output that is left out comes from the operand.
        const std::int64_t size = n.hasOutput(i) ? n.outputShape(i).at(axis)
                                  : sizes        ? sizes->at(i)
                                                 : throw NotUnderstood("sizes of the pieces");
        std::vector<Axis> axes = n.axes(0);
        if (size < 0 || size > n.shape(0)[axis] - offset) throw NotUnderstood("sizes of the pieces");
        axes[axis] = n.store().slice(axes[axis], offset, offset + size);
        n.set(i, std::move(axes));
        offset += size;
    }
}

void slice(NodeAxes& n) {
    const Shape& in = n.shape(0);
    const Shape& out = n.outputOfSameRank();
    const auto starts = n.operand(1, "starts");
    if (!starts) throw NotUnderstood("bounds");
    auto axesOperand = n.operand(3, "axes");
    if (!axesOperand) {
        axesOperand.emplace(starts->size());
        std::iota(axesOperand->begin(), axesOperand->end(), 0);
    }
    std::vector<std::int64_t> steps(starts->size(), 1);
    if (n.has(4)) steps = n.ints(4);
    if (axesOperand->size() != starts->size() || steps.size() != starts->size())
        throw NotUnderstood("bounds that do not fit the shape");
    std::vector<Axis> axes = n.axes(0);
    std::vector<bool> isCut(in.size(), false);
    for (std::size_t i = 0; i < starts->size(); ++i) {
        const std::size_t k = n.position((*axesOperand)[i], in.size());
        if (isCut[k]) throw NotUnderstood("an axis is cut twice");
        isCut[k] = true;
        const std::int64_t step = steps[i];
        const std::int64_t begin =
            std::clamp<std::int64_t>((*starts)[i] < 0 ? (*starts)[i] + in[k] : (*starts)[i], 0, in[k]);
        if (step > 0 && out[k] == in[k]) continue;
        if (out[k] == 0) {
            axes[k] = n.store().axis(0);
        } else if (step == 1) {
            if (out[k] > in[k] - begin) throw NotUnderstood("bounds that do not fit the shape");
            axes[k] = n.store().slice(axes[k], begin, begin + out[k]);
        } else if (step > 1 && in[k] % step == 0 && out[k] == in[k] / step) {
            // Every step-th position: of pairs (interleaved rotary embeddings) it picks one.
            auto [kept, selector] = n.store().take(axes[k], out[k]);
            n.freeze(selector, "picked by position");
            axes[k] = std::move(kept);
        } else {
            n.freeze(axes[k], "picked by position");
            axes[k] = n.store().axis(out[k]);
            n.freeze(axes[k], "picked by position");
        }
    }
    n.set(0, std::move(axes));
}

void expand(NodeAxes& n) {
    const Shape& in = n.shape(0);
    const Shape& out = n.outputShape(0);
    std::vector<Axis> axes;
    for (std::size_t j = 0; j < out.size(); ++j) {
        const std::size_t missing = out.size() - in.size();
        const bool kept = j >= missing && in[j - missing] == out[j];
        axes.push_back(kept ? n.axes(0)[j - missing] : n.store().axis(out[j]));
    }
    n.set(0, std::move(axes));
}

void tile(NodeAxes& n) {
    const Shape& in = n.shape(0);
    const Shape& out = n.outputOfSameRank();
    std::vector<Axis> axes;
    for (std::size_t j = 0; j < out.size(); ++j) {
        Axis axis = n.store().axis(in[j] == 0 ? 1 : out[j] / in[j]);
        const Axis& own = n.axes(0)[j];
        axis.insert(axis.end(), own.begin(), own.end());
        axes.push_back(std::move(axis));
    }
    n.set(0, std::move(axes));
}

void pad(NodeAxes& n) {
    const Shape& in = n.shape(0);
    const Shape& out = n.outputOfSameRank();
    std::vector<Axis> axes = n.axes(0);
    for (std::size_t j = 0; j < out.size(); ++j) {
        if (in[j] == out[j]) continue;
        n.freeze(axes[j], "padded");
        axes[j] = n.store().axis(out[j]);
        n.freeze(axes[j], "padded");
    }
    n.set(0, std::move(axes));
}

// Channels stay, the spatial axes are new.
void spatial(NodeAxes& n) {
    const Shape& in = n.shape(0);
    const Shape& out = n.outputOfSameRank();
    std::vector<Axis> axes = n.axes(0);
    for (std::size_t j = 2; j < out.size(); ++j) {
        if (in[j] == out[j]) continue;
        n.event(EventKind::spatial, axes[j]);
        axes[j] = n.store().axis(out[j]);
    }
    n.set(0, std::move(axes));
}

void freshOutputs(NodeAxes& n) {
    for (std::size_t i = 0; i < n.node().outputs().size(); ++i) n.setFresh(i);
}

}  // namespace

bool isLayout(const ir::Node& node) {
    static const std::unordered_set<std::string> names = {"Reshape",   "Flatten", "Squeeze", "Unsqueeze",
                                                          "Transpose", "Concat",  "Split",   "Slice",
                                                          "Expand",    "Tile"};
    return node.domain().empty() && names.count(node.opType()) != 0;
}

void addLayoutAxisRules(AxisRules& rules) {
    for (const char* name : {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}) rules[name] = regroup;
    rules["Transpose"] = transpose;
    rules["Concat"] = concat;
    rules["Split"] = split;
    rules["Slice"] = slice;
    rules["Expand"] = expand;
    rules["Tile"] = tile;
    rules["Pad"] = pad;
    for (const char* name : {"AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool",
                             "GlobalLpPool", "Resize"}) {
        rules[name] = spatial;
    }
    for (const char* name : {"Shape", "Size", "ConstantOfShape", "Range", "EyeLike", "RandomNormal",
                             "RandomUniform", "RandomNormalLike", "RandomUniformLike"}) {
        rules[name] = freshOutputs;
    }
}

}  // namespace tcompress::analysis
