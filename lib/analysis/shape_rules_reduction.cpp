// Reductions over axes, arg and top-k operators.

#include <algorithm>

#include "lib/analysis/shape_rules.h"
#include "lib/analysis/small_values.h"

namespace tcompress::analysis {

namespace {

using Combine = std::int64_t (*)(std::int64_t, std::int64_t);

std::vector<bool> reducedAxes(const NodeShapes& s, std::size_t rank) {
    const auto axes = s.operand(1, "axes");
    const bool none = !axes || axes->empty();
    std::vector<bool> reduced(rank, none && s.node().attributeInt("noop_with_empty_axes", 0) == 0);
    if (!none) {
        for (std::int64_t axis : *axes) reduced[s.axis(axis, rank)] = true;
    }
    return reduced;
}

void setReduced(NodeShapes& s, const Shape& in, const std::vector<bool>& reduced) {
    Shape out;
    for (std::size_t i = 0; i < in.size(); ++i) {
        if (!reduced[i]) {
            out.push_back(in[i]);
        } else if (s.node().attributeInt("keepdims", 1) != 0) {
            out.push_back(1);
        }
    }
    s.set(0, out);
}

void reduce(NodeShapes& s, Combine combineInts) {
    const Shape in = s.shape(0);
    const std::vector<bool> reduced = reducedAxes(s, in.size());
    setReduced(s, in, reduced);
    const bool all = std::all_of(reduced.begin(), reduced.end(), [](bool r) { return r; });
    if (combineInts == nullptr || !all || elementCount(in) == 0) return;
    const Tensor value = s.value(0);
    if (isFloatingPoint(value.dtype())) return;
    const std::vector<std::int64_t> values = toInt64(value);
    std::int64_t result = values.front();
    for (std::size_t i = 1; i < values.size(); ++i) result = combineInts(result, values[i]);
    const bool keep = s.node().attributeInt("keepdims", 1) != 0;
    s.set(0, fromInts(value.dtype(), keep ? Shape(in.size(), 1) : Shape{}, {result}));
}

void argReduce(NodeShapes& s) {
    const Shape in = s.shape(0);
    std::vector<bool> reduced(in.size(), false);
    reduced[s.axis(s.node().attributeInt("axis", 0), in.size())] = true;
    setReduced(s, in, reduced);
}

void topK(NodeShapes& s) {
    Shape out = s.shape(0);
    out[s.axis(s.node().attributeInt("axis", -1), out.size())] = s.ints(1).at(0);
    s.set(0, out);
    s.set(1, out);
}

}  // namespace

void addReductionShapeRules(ShapeRules& rules) {
    const std::pair<const char*, Combine> reductions[] = {
        {"ReduceProd", product},
        {"ReduceSum", sum},
        {"ReduceMin", [](std::int64_t a, std::int64_t b) { return std::min(a, b); }},
        {"ReduceMax", [](std::int64_t a, std::int64_t b) { return std::max(a, b); }},
        {"ReduceMean", nullptr},
        {"ReduceSumSquare", nullptr},
        {"ReduceL1", nullptr},
        {"ReduceL2", nullptr},
        {"ReduceLogSum", nullptr},
        {"ReduceLogSumExp", nullptr},
    };
    for (const auto& [name, combineInts] : reductions) {
        rules[name] = [combineInts = combineInts](NodeShapes& s) { reduce(s, combineInts); };
    }
    rules["ArgMax"] = argReduce;
    rules["ArgMin"] = argReduce;
    rules["TopK"] = topK;
}

}  // namespace tcompress::analysis
