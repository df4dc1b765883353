#include "lib/exec/cut.h"

#include <algorithm>
#include <unordered_map>

#include "lib/support/check.h"

namespace tcompress::exec {

namespace {

std::vector<ValueId> idsOf(const PlanGraph& graph, const std::vector<const ir::Value*>& values) {
    std::unordered_map<const ir::Value*, ValueId> ids;
    for (std::size_t i = 0; i < graph.values.size(); ++i) {
        if (graph.values[i].source) ids.emplace(graph.values[i].source, static_cast<ValueId>(i));
    }
    std::vector<ValueId> result;
    for (const ir::Value* value : values) {
        const auto found = ids.find(value);
        TCOMPRESS_CHECK(found != ids.end(), "a cut through a value that is not the model's");
        result.push_back(found->second);
    }
    return result;
}

/// The nodes that make these values make others in their place that nobody reads.
void detach(PlanGraph& graph, const std::vector<ValueId>& fed) {
    for (PlanNode& node : graph.nodes) {
        for (ValueId& output : node.outputs) {
            if (output == kNoValue || std::find(fed.begin(), fed.end(), output) == fed.end()) continue;
            PlanValue unread;
            unread.name = graph.value(output).name;
            unread.dtype = graph.value(output).dtype;
            output = graph.addValue(std::move(unread));
        }
    }
}

/// By value: whether a kept value depends on it.
std::vector<std::uint8_t> removeUnneeded(PlanGraph& graph) {
    std::vector<std::uint8_t> needed(graph.values.size(), 0);
    for (std::size_t i = 0; i < graph.values.size(); ++i) needed[i] = graph.values[i].kept;
    const auto isNeeded = [&](ValueId id) { return id != kNoValue && needed[static_cast<std::size_t>(id)]; };
    std::vector<PlanNode> nodes;
    for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
        if (std::none_of(node->outputs.begin(), node->outputs.end(), isNeeded)) continue;
        for (ValueId id : node->inputs) {
            if (id != kNoValue) needed[static_cast<std::size_t>(id)] = 1;
        }
        nodes.push_back(std::move(*node));
    }
    std::reverse(nodes.begin(), nodes.end());
    graph.nodes = std::move(nodes);
    return needed;
}

}  // namespace

void cutGraph(PlanGraph& graph, const ExecutorOptions& options, const Observer* observer) {
    if (options.outputs) {
        for (ValueId id : graph.outputs) graph.value(id).kept = false;
        graph.outputs = idsOf(graph, *options.outputs);
        for (ValueId id : graph.outputs) graph.value(id).kept = true;
    }
    for (PlanValue& value : graph.values) {
        if (observer && value.source && observer->wants(*value.source)) value.kept = true;
    }
    if (options.inputs.empty() && !options.outputs) return;
    std::vector<ValueId> inputs = idsOf(graph, options.inputs);
    for (ValueId id : inputs) TCOMPRESS_CHECK(!graph.constant(id), "a cut through a constant");
    detach(graph, inputs);
    const std::vector<std::uint8_t> needed = removeUnneeded(graph);
    for (ValueId id : graph.inputs) {
        if (needed[static_cast<std::size_t>(id)] &&
            std::find(inputs.begin(), inputs.end(), id) == inputs.end())
            inputs.push_back(id);
    }
    graph.inputs = std::move(inputs);
}

}  // namespace tcompress::exec
