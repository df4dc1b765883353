#include "lib/train/rules.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "lib/support/check.h"

namespace tcompress::train {

std::optional<std::vector<std::int64_t>> integersOf(const ir::Value* value, const SeenValues& seen) {
    if (value == nullptr) return std::nullopt;
    if (const Tensor* constant = value->constant(); constant != nullptr)
        return isInteger(constant->dtype()) ? std::optional(toInt64(*constant)) : std::nullopt;
    const auto found = seen.find(value->name());
    if (found == seen.end() || found->second.integers.empty()) return std::nullopt;
    return found->second.integers;
}

std::optional<float> constantNumber(const ir::Value* value) {
    const Tensor* constant = value == nullptr ? nullptr : value->constant();
    if (constant == nullptr || constant->size() != 1 || constant->dtype() != DType::float32) return std::nullopt;
    return constant->data<float>()[0];
}

ir::Value* NodeGradient::dy(std::size_t i) const {
    const ir::Value* output = node_.output(i);
    const auto found = gradients_.find(output);
    return output == nullptr || found == gradients_.end() ? nullptr : found->second;
}

Shape NodeGradient::shapeOf(const ir::Value* value) const {
    if (const Tensor* constant = value->initialValue(); constant != nullptr) return constant->shape();
    const auto found = seen_.find(value->name());
    TCOMPRESS_CHECK(found != seen_.end(), "a value whose shape nobody saw");
    return found->second.shape;
}

void NodeGradient::add(std::size_t i, ir::Value* gradient) {
    if (!wants(i)) return;
    ir::Value*& sum = gradients_[x(i)];
    sum = sum == nullptr ? gradient : emit("Add", {sum, gradient});
}

void NodeGradient::addBroadcast(std::size_t i, ir::Value* gradient) {
    if (!wants(i)) return;
    const Shape to = shapeOf(y()), from = shapeOf(x(i));
    const std::size_t more = to.size() - from.size();
    std::vector<std::int64_t> axes;
    for (std::size_t axis = 0; axis < to.size(); ++axis)
        if (axis < more || (from[axis - more] == 1 && to[axis] != 1)) axes.push_back(static_cast<std::int64_t>(axis));
    if (!axes.empty()) gradient = sum(gradient, axes);
    if (more > 0)
        addReshaped(i, gradient);
    else
        add(i, gradient);
}

void NodeGradient::addReshaped(std::size_t i, ir::Value* gradient) {
    if (wants(i)) add(i, emit("Reshape", {gradient, emit("Shape", {x(i)})}));
}

ir::Value* NodeGradient::number(float value) const { return edit_.addInitializer("number", Tensor::scalar(value)); }

ir::Value* NodeGradient::product(ir::Value* a, bool transposeA, ir::Value* b, bool transposeB, float scale) const {
    if (!transposeA && !transposeB && scale == 1) return emit("MatMul", {a, b});
    ir::NodeSpec spec{"FusedMatMul", "com.microsoft", "", {a, b}, 1, {}};
    spec.attributes = {{"transA", std::int64_t{transposeA}}, {"transB", std::int64_t{transposeB}}, {"alpha", scale}};
    return edit_.addNode(std::move(spec))->output();
}

ir::Value* NodeGradient::sum(ir::Value* value, const std::vector<std::int64_t>& axes) const {
    if (axes.empty()) return value;
    return opset() < 13 ? emit("ReduceSum", {value}, {{"axes", axes}}) : emit("ReduceSum", {value, integers(axes)});
}

ir::Value* NodeGradient::mean(ir::Value* value, const std::vector<std::int64_t>& axes) const {
    if (axes.empty()) return value;
    return opset() < 18 ? emit("ReduceMean", {value}, {{"axes", axes}}) : emit("ReduceMean", {value, integers(axes)});
}

ir::Value* NodeGradient::padded(ir::Value* value, std::int64_t rank, std::int64_t axis, std::int64_t before, std::int64_t after) const {
    std::vector<std::int64_t> pads(static_cast<std::size_t>(2 * rank));
    pads[static_cast<std::size_t>(axis)] = before;
    pads[static_cast<std::size_t>(rank + axis)] = after;
    return emit("Pad", {value, integers(pads)});
}

ir::Value* NodeGradient::slice(ir::Value* value, std::int64_t axis, std::int64_t begin, std::int64_t end) const {
    return emit("Slice", {value, integers({begin}), integers({end}), integers({axis})});
}

NodeRule ruleFor(const ir::Model& model, const ir::Node& node, const SeenValues& seen) {
    // Integers and truth values do not move with what they are made of, nor do steps.
    static constexpr std::array<std::string_view, 4> kSteps = {"Floor", "Ceil", "Round", "Sign"};
    const auto isSeen = [&](const ir::Value* value, auto holds) {
        const auto found = value == nullptr ? seen.end() : seen.find(value->name());
        return found != seen.end() && holds(found->second.dtype);
    };
    const auto& outputs = node.outputs();
    if (std::all_of(outputs.begin(), outputs.end(), [&](const ir::Value* y) {
            return y == nullptr || isSeen(y, [](DType type) { return !isFloatingPoint(type); });
        }))
        return {NodeRule::Kind::constant};
    if (node.domain().empty() && std::find(kSteps.begin(), kSteps.end(), node.opType()) != kSteps.end()) return {NodeRule::Kind::constant};
    const bool isKnown = (node.domain().empty() ? model.opset() >= kFewestOpset : node.domain() == "com.microsoft") && !node.hasSubgraph() &&
                         isSeen(node.output(), [](DType type) { return type == DType::float32; });
    if (!isKnown) return {};
    for (const Rule rule : {elementwiseRule(node, seen), layoutRule(node, seen), linearRule(node, seen), normRule(model, node, seen)})
        if (rule != nullptr) return {NodeRule::Kind::rule, rule};
    return {};
}

}  // namespace tcompress::train
