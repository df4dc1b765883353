#include "lib/exec/shape_analysis.h"

#include <algorithm>
#include <map>
#include <string>

namespace tcompress::exec {

namespace {

/// Inputs whose elements decide the shape of the output, by operator of the standard domain.
const std::map<std::string, std::vector<std::size_t>, std::less<>>& shapeOperands() {
    static const std::map<std::string, std::vector<std::size_t>, std::less<>> operands{
        {"Reshape", {1}},   {"Expand", {1}},        {"Tile", {1}},           {"Slice", {1, 2, 3, 4}},
        {"Pad", {1, 3}},    {"ConstantOfShape", {0}}, {"Range", {0, 1, 2}},  {"OneHot", {1}},
        {"TopK", {1}},      {"Resize", {1, 2, 3}},  {"Upsample", {1}},       {"Split", {1}},
        {"Squeeze", {1}},   {"Unsqueeze", {1}},     {"CenterCropPad", {1}},
        {"SequenceAt", {1}}, {"SequenceInsert", {2}}, {"SequenceErase", {1}}, {"SplitToSequence", {1}},
    };
    return operands;
}

bool shapeDependsOnData(const PlanNode& node) {
    static const std::vector<std::string> kinds{"NonZero", "Unique", "Compress", "NonMaxSuppression"};
    return node.capturedFrom != node.inputs.size() || node.is("If") || node.is("Loop") || node.is("Scan") ||
           std::find(kinds.begin(), kinds.end(), node.opType()) != kinds.end();
}

std::vector<std::size_t> shapeOperandsOf(const PlanNode& node) {
    if (node.is("com.microsoft", "GroupQueryAttention")) return {6};
    if (!node.domain.empty()) return {};
    if (node.opType().rfind("Reduce", 0) == 0) return {1};
    const auto found = shapeOperands().find(node.opType());
    return found == shapeOperands().end() ? std::vector<std::size_t>{} : found->second;
}

}  // namespace

std::vector<std::uint8_t> shapeOnlyValues(const PlanGraph& graph) {
    std::vector<std::uint8_t> shapeOnly(graph.values.size(), 0);
    std::vector<std::uint8_t> predictable(graph.values.size(), 0);  // the shape, not the elements
    for (std::size_t i = 0; i < graph.values.size(); ++i) shapeOnly[i] = predictable[i] = graph.values[i].isConstant();
    for (ValueId id : graph.inputs) predictable[static_cast<std::size_t>(id)] = 1;
    const auto holds = [](const std::vector<std::uint8_t>& flags, ValueId id) { return id == kNoValue || flags[static_cast<std::size_t>(id)]; };
    for (const PlanNode& node : graph.nodes) {
        const auto all = [&](const std::vector<std::uint8_t>& flags) {
            return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) { return holds(flags, id); });
        };
        const bool random = node.opType().rfind("Random", 0) == 0 || node.opType() == "Bernoulli" || node.opType() == "Multinomial";
        const bool onlyShapes = !random && !shapeDependsOnData(node) &&
                                (all(shapeOnly) || ((node.is("Shape") || node.is("Size")) && all(predictable)));
        const std::vector<std::size_t> operands = shapeOperandsOf(node);
        const bool knownShape = !shapeDependsOnData(node) && all(predictable) &&
                                std::all_of(operands.begin(), operands.end(), [&](std::size_t i) { return holds(shapeOnly, node.input(i)); });
        for (ValueId id : node.outputs) {
            if (id == kNoValue) continue;
            shapeOnly[static_cast<std::size_t>(id)] = onlyShapes;
            predictable[static_cast<std::size_t>(id)] = onlyShapes || knownShape;
        }
    }
    return shapeOnly;
}

}  // namespace tcompress::exec
