// Element-wise operators: broadcast axes are the same axes.

#include <algorithm>
#include <iterator>
#include <numeric>

#include "lib/analysis/axis_rules.h"
#include "lib/analysis/elementwise_operators.h"
#include "lib/analysis/shape_rules.h"

namespace tcompress::analysis {

namespace {

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
    const auto holds = [&](const auto& names) { return std::ranges::find(names, name) != std::end(names); };
    return holds(kElementwiseOperators) || holds(kElementwiseInFirstInput);
}

void addElementwiseAxisRules(AxisRules& rules) {
    for (const std::string_view name : kElementwiseOperators) rules[std::string(name)] = elementwise;
    for (const std::string_view name : kElementwiseInFirstInput) rules[std::string(name)] = firstOnly;
    rules["CumSum"] = [](NodeAxes& n) { ordered(n, {n.position(n.ints(1).at(0), n.shape(0).size())}); };
    rules["Trilu"] = [](NodeAxes& n) {
        const std::size_t rank = n.shape(0).size();
        if (rank < 2) throw NotUnderstood("a matrix expected");
        ordered(n, {rank - 2, rank - 1});
    };
}

}  // namespace tcompress::analysis
