// Operators that move elements.

#include <algorithm>
#include <map>
#include <numeric>
#include <string_view>

#include "lib/train/rules.h"

namespace tcompress::train {
namespace {

void reshape(NodeGradient& g) { g.addReshaped(0, g.dy()); }
void expand(NodeGradient& g) { g.addBroadcast(0, g.dy()); }

void transpose(NodeGradient& g) {
    const auto rank = static_cast<std::size_t>(g.rankOf(g.x()));
    std::vector<std::int64_t> order(rank), back(rank);
    std::iota(order.rbegin(), order.rend(), 0);
    order = g.node().attributeInts("perm").value_or(order);
    for (std::size_t i = 0; i < rank; ++i) back[static_cast<std::size_t>(order[i])] = static_cast<std::int64_t>(i);
    g.add(0, g.emit("Transpose", {g.dy()}, {{"perm", back}}));
}

void concatenate(NodeGradient& g) {
    const std::int64_t axis = countedAxis(g.node().attributeInt("axis", 0), g.rankOf(g.y()));
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < g.node().inputs().size(); ++i) {
        const std::int64_t end = begin + g.shapeOf(g.x(i))[static_cast<std::size_t>(axis)];
        if (g.wants(i)) g.add(i, g.slice(g.dy(), axis, begin, end));
        begin = end;
    }
}

void split(NodeGradient& g) {
    const std::int64_t axis = countedAxis(g.node().attributeInt("axis", 0), g.rankOf(g.x()));
    std::vector<ir::Value*> parts;
    for (std::size_t i = 0; i < g.node().outputs().size(); ++i) {
        ir::Value* part = g.dy(i);
        parts.push_back(part != nullptr ? part : g.emit("Mul", {g.y(i), g.number(0)}));
    }
    g.add(0, g.emit("Concat", std::move(parts), {{"axis", axis}}));
}

/// One stretch of an axis.
struct Stretch {
    std::int64_t axis = 0, begin = 0, end = 0;
};

/// What a Slice with steps of one takes; nothing for other forms.
std::optional<std::vector<Stretch>> stretchesOf(const ir::Node& node, const SeenValues& seen) {
    const auto data = seen.find(node.input(0) == nullptr ? "" : node.input(0)->name());
    const auto begins = integersOf(node.input(1), seen), ends = integersOf(node.input(2), seen), steps = integersOf(node.input(4), seen);
    if (data == seen.end() || !begins || !ends || begins->size() != ends->size()) return std::nullopt;
    if (node.input(4) != nullptr && (!steps || std::any_of(steps->begin(), steps->end(), [](std::int64_t step) { return step != 1; })))
        return std::nullopt;
    std::vector<std::int64_t> axes(begins->size());
    std::iota(axes.begin(), axes.end(), 0);
    if (node.input(3) != nullptr) {
        const auto given = integersOf(node.input(3), seen);
        if (!given || given->size() != axes.size()) return std::nullopt;
        axes = *given;
    }
    std::vector<Stretch> stretches;
    const Shape& shape = data->second.shape;
    for (std::size_t i = 0; i < axes.size(); ++i) {
        const std::int64_t axis = countedAxis(axes[i], static_cast<std::int64_t>(shape.size())), size = shape[static_cast<std::size_t>(axis)];
        const auto place = [&](std::int64_t at) { return std::clamp<std::int64_t>(at < 0 ? at + size : at, 0, size); };
        stretches.push_back({axis, place((*begins)[i]), place((*ends)[i])});
    }
    return stretches;
}

/// The stretch of its axis that a Gather takes; nothing where places do not follow each other.
std::optional<Stretch> gathered(const ir::Node& node, const SeenValues& seen) {
    const auto data = seen.find(node.input(0) == nullptr ? "" : node.input(0)->name());
    const auto places = integersOf(node.input(1), seen);
    if (data == seen.end() || !places || places->empty()) return std::nullopt;
    const Shape& shape = data->second.shape;
    const std::int64_t axis = countedAxis(node.attributeInt("axis", 0), static_cast<std::int64_t>(shape.size()));
    const std::int64_t first = countedAxis(places->front(), shape[static_cast<std::size_t>(axis)]);
    for (std::size_t i = 0; i < places->size(); ++i)
        if (countedAxis((*places)[i], shape[static_cast<std::size_t>(axis)]) != first + static_cast<std::int64_t>(i)) return std::nullopt;
    return Stretch{axis, first, first + static_cast<std::int64_t>(places->size())};
}

ir::Value* padded(NodeGradient& g, ir::Value* value, const Stretch& stretch) {
    const std::int64_t size = g.shapeOf(g.x())[static_cast<std::size_t>(stretch.axis)];
    if (stretch.begin == 0 && stretch.end == size) return value;
    return g.padded(value, g.rankOf(g.x()), stretch.axis, stretch.begin, size - stretch.end);
}

void sliceBack(NodeGradient& g) {
    ir::Value* gradient = g.dy();
    const std::vector<Stretch> stretches = *stretchesOf(g.node(), g.seen());
    for (const Stretch& stretch : stretches) gradient = padded(g, gradient, stretch);
    g.add(0, gradient);
}

void gatherBack(NodeGradient& g) {
    const Stretch stretch = *gathered(g.node(), g.seen());
    ir::Value* gradient = g.dy();
    // A single place takes its axis away, places in a matrix add one.
    if (g.rankOf(g.y()) != g.rankOf(g.x())) {
        Shape shape = g.shapeOf(g.x());
        shape[static_cast<std::size_t>(stretch.axis)] = stretch.end - stretch.begin;
        if (stretch.axis != 0) shape[0] = -1;
        gradient = g.emit("Reshape", {gradient, g.integers(shape)});
    }
    g.add(0, padded(g, gradient, stretch));
}

const std::map<std::string_view, Rule> kRules = {
    {"Reshape", reshape},   {"Flatten", reshape},    {"Squeeze", reshape}, {"Unsqueeze", reshape}, {"Expand", expand},
    {"Transpose", transpose}, {"Concat", concatenate}, {"Split", split},   {"Slice", sliceBack},   {"Gather", gatherBack},
};

}  // namespace

Rule layoutRule(const ir::Node& node, const SeenValues& seen) {
    const auto found = kRules.find(node.opType());
    if (!node.domain().empty() || found == kRules.end()) return nullptr;
    if (node.is("Slice") && !stretchesOf(node, seen)) return nullptr;
    if (node.is("Gather") && !gathered(node, seen)) return nullptr;
    return found->second;
}

}  // namespace tcompress::train
