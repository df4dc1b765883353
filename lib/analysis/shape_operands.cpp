// Shape operands after a cut. What each element must be is known from the axes; what the model's own shape
// arithmetic makes of it is known by evaluating it with the predicted shapes. Only elements where the two
// differ are patched: in a constant, in a piece of a Concat, or else by nodes that correct them.

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "lib/analysis/shrink_plan.h"
#include "lib/support/error.h"

namespace tcompress::analysis {

namespace {

bool takesTargetShape(const ir::Node& node) { return node.is("Reshape") || node.is("Expand"); }

/// Operands that say something about a shape; the rest of a node's inputs is data.
std::vector<std::size_t> shapeInputs(const ir::Node& node) {
    if (takesTargetShape(node) || node.is("Tile") || node.is("Split")) return {1};
    if (node.is("ConstantOfShape")) return {0};
    if (node.is("Slice")) return {1, 2};
    return {};
}

}  // namespace

bool ShrinkPlan::isShapeOperand(const ir::Node& node, std::size_t input) const {
    const std::vector<std::size_t> inputs = shapeInputs(node);
    return std::find(inputs.begin(), inputs.end(), input) != inputs.end();
}

void ShrinkPlan::patchShapeOperands() {
    for (const auto& node : model_.graph().nodes()) {
        if (node->output() == nullptr || axes_.of(node->output()) == nullptr) continue;
        if (takesTargetShape(*node)) patchTarget(*node, 1);
        if (node->is("ConstantOfShape")) patchTarget(*node, 0);
        if (node->is("Tile")) patchTile(*node);
        if (node->is("Split")) patchSplit(*node);
        if (node->is("Slice")) patchSlice(*node);
    }
}

void ShrinkPlan::patchTarget(const ir::Node& node, std::size_t input) {
    const std::vector<Axis>& out = *axes_.of(node.output());
    const std::optional<Tensor> before = axes_.shapes.value(*node.input(input));
    if (!before) {
        if (touches(out)) refuse(node, "its shape operand is not known");
        return;
    }
    const std::vector<std::int64_t> old = toInt64(*before);
    TCOMPRESS_CHECK(old.size() <= out.size(),
                    "a shape operand has no more elements than the output has axes");
    const std::size_t missing = out.size() - old.size();
    const bool copiesZero = node.is("Reshape") && node.attributeInt("allowzero", 0) == 0;
    Wanted wanted(old.size());
    for (std::size_t j = 0; j < old.size(); ++j) {
        const bool free = (node.is("Reshape") && old[j] == -1) || (copiesZero && old[j] == 0);
        const bool stretches = node.is("Expand") && old[j] == 1;
        if (!free && !stretches) wanted[j] = store_.keptSize(out[missing + j], keep_);
    }
    patchOperand(node, input, wanted, [&](std::size_t j) -> const Axis& { return out[missing + j]; });
}

void ShrinkPlan::patchTile(const ir::Node& node) {
    const std::vector<Axis>& in = *axes_.of(node.input(0));
    const std::vector<Axis>& out = *axes_.of(node.output());
    Wanted wanted(in.size());
    for (std::size_t j = 0; j < in.size(); ++j) {
        const std::int64_t size = store_.keptSize(in[j], keep_);
        if (size > 0) wanted[j] = store_.keptSize(out[j], keep_) / size;
    }
    patchOperand(node, 1, wanted, [&](std::size_t j) -> const Axis& { return out[j]; });
}

void ShrinkPlan::patchSplit(const ir::Node& node) {
    const std::vector<Axis>& in = *axes_.of(node.input(0));
    const auto rank = static_cast<std::int64_t>(in.size());
    const std::int64_t requested = node.attributeInt("axis", 0);
    const auto axis = static_cast<std::size_t>(requested < 0 ? requested + rank : requested);
    if (!store_.touches(in[axis], keep_)) return;
    std::vector<std::int64_t> sizes;
    for (const ir::Value* output : node.outputs()) {
        if (output == nullptr || axes_.of(output) == nullptr)
            refuse(node, "the size of a piece is not known");
        sizes.push_back(store_.keptSize(axes_.of(output)->at(axis), keep_));
    }
    if (node.attributeInts("split")) {
        edit_.setAttribute(twin(node), {"split", sizes});
        ++report_.attributesPatched;
    } else if (node.input(1) != nullptr) {
        const Wanted wanted(sizes.begin(), sizes.end());
        patchOperand(node, 1, wanted, [&](std::size_t) -> const Axis& { return in[axis]; });
    } else if (std::adjacent_find(sizes.begin(), sizes.end(), std::not_equal_to<>()) != sizes.end()) {
        // Equal pieces that are equal no more: say the sizes.
        if (model_.opset() >= 13) {
            ir::Value* operand =
                ints("split_sizes", sizes, {static_cast<std::int64_t>(sizes.size())}, DType::int64);
            edit_.replaceInput(twin(node), 1, operand);
            if (node.attribute("num_outputs") != nullptr) edit_.removeAttribute(twin(node), "num_outputs");
        } else {
            edit_.setAttribute(twin(node), {"split", sizes});
        }
        ++report_.shapeOperandsPatched;
    }
}

void ShrinkPlan::patchSlice(const ir::Node& node) {
    const std::vector<Axis>& in = *axes_.of(node.input(0));
    if (!touches(in)) return;
    const auto shape = axes_.shapes.shape(*node.input(0));
    const auto starts = axes_.shapes.value(*node.input(1));
    const auto ends = axes_.shapes.value(*node.input(2));
    if (!shape || !starts || !ends) refuse(node, "its bounds are not known");
    const std::vector<std::int64_t> begin = toInt64(*starts), end = toInt64(*ends);
    std::vector<std::int64_t> axes(begin.size()), steps(begin.size(), 1);
    std::iota(axes.begin(), axes.end(), 0);
    if (node.input(3) != nullptr) axes = toInt64(*axes_.shapes.value(*node.input(3)));
    if (node.input(4) != nullptr) steps = toInt64(*axes_.shapes.value(*node.input(4)));
    Wanted newBegin(begin.size()), newEnd(end.size());
    std::vector<std::size_t> axisOf;
    for (std::size_t i = 0; i < begin.size(); ++i) {
        const auto k =
            static_cast<std::size_t>(axes[i] < 0 ? axes[i] + static_cast<std::int64_t>(in.size()) : axes[i]);
        axisOf.push_back(k);
        if (!store_.touches(in[k], keep_)) continue;
        const std::int64_t size = (*shape)[k];
        const std::vector<bool> mask = store_.mask(in[k], keep_);
        const auto keptBefore = [&](std::int64_t position) {
            const std::int64_t at =
                std::clamp<std::int64_t>(position < 0 ? position + size : position, 0, size);
            return static_cast<std::int64_t>(std::count(mask.begin(), mask.begin() + at, true));
        };
        if (steps[i] < 0) refuse(node, "it runs backwards over the axis");
        // With a step it picks one position of each group, and groups stay whole: only where it ends moves.
        if (steps[i] == 1) newBegin[i] = keptBefore(begin[i]);
        if (end[i] < size) newEnd[i] = keptBefore(end[i]);
    }
    const auto cutAxis = [&](std::size_t i) -> const Axis& { return in[axisOf[i]]; };
    patchOperand(node, 1, newBegin, cutAxis);
    patchOperand(node, 2, newEnd, cutAxis);
}

ir::Value* ShrinkPlan::patchedPieces(const ir::Node& concat, Wanted& wanted,
                                     const std::vector<std::int64_t>& now,
                                     const std::function<const Axis&(std::size_t)>& axisOf) {
    std::vector<ir::Value*> pieces;
    bool changed = false;
    std::size_t offset = 0;
    for (const ir::Value* piece : concat.inputs()) {
        const auto shape = axes_.shapes.shape(*piece);
        if (!shape || shape->size() != 1) return nullptr;
        const auto length = static_cast<std::size_t>(shape->front());
        bool wrong = false, fixed = true;
        for (std::size_t j = offset; j < offset + length; ++j) {
            if (!wanted[j]) {
                // An element that is right as it is can only become a constant when it is one.
                fixed = fixed && piece->constant() != nullptr;
                continue;
            }
            wrong = wrong || *wanted[j] != now[j];
            fixed = fixed && !dependsOnInput(axisOf(j));
        }
        if (wrong && fixed) {
            std::vector<std::int64_t> values;
            for (std::size_t j = offset; j < offset + length; ++j)
                values.push_back(wanted[j].value_or(now[j]));
            const std::optional<Tensor> old = axes_.shapes.value(*piece);
            pieces.push_back(ints(piece->name(), values, *shape, old->dtype()));
            for (std::size_t j = offset; j < offset + length; ++j) wanted[j].reset();
            changed = true;
        } else {
            pieces.push_back(twin(*piece));
        }
        offset += length;
    }
    if (!changed) return nullptr;
    ir::NodeSpec clone;
    clone.opType = "Concat";
    clone.name = concat.label() + "_cut";
    clone.inputs = std::move(pieces);
    clone.attributes = {{"axis", std::int64_t{0}}};
    return edit_.addNode(std::move(clone))->output();
}

void ShrinkPlan::patchOperand(const ir::Node& node, std::size_t input, const Wanted& required,
                              const std::function<const Axis&(std::size_t)>& axisOf) {
    const ir::Value& operand = *node.input(input);
    const std::optional<std::vector<std::int64_t>> now = valueNow(operand);
    if (!now) {
        if (std::any_of(required.begin(), required.end(), [](const auto& w) { return w.has_value(); })) {
            refuse(node, fmt::format("what '{}' will be cannot be computed", operand.name()));
        }
        return;
    }
    Wanted wanted = required;
    const auto wrong = [&](std::size_t j) { return wanted[j] && *wanted[j] != (*now)[j]; };
    const auto anyWrong = [&] {
        for (std::size_t j = 0; j < wanted.size(); ++j) {
            if (wrong(j)) return true;
        }
        return false;
    };
    if (!anyWrong()) return;
    ++report_.shapeOperandsPatched;
    const std::optional<Tensor> old = axes_.shapes.value(operand);
    const Shape shape = old->shape();

    if (operand.constant() != nullptr) {
        std::vector<std::int64_t> values = *now;
        for (std::size_t j = 0; j < values.size(); ++j) {
            if (!wrong(j)) continue;
            // A fixed number for an axis that follows the input: Reshape can infer one such axis.
            const bool inferred = dependsOnInput(axisOf(j));
            const bool free =
                node.is("Reshape") && std::find(values.begin(), values.end(), -1) == values.end();
            if (inferred && !free) refuse(node, "a constant stands for an axis that follows the input");
            values[j] = inferred ? -1 : *wanted[j];
        }
        edit_.replaceInput(twin(node), input, ints(operand.name(), values, shape, old->dtype()));
        return;
    }

    ir::Value* current = nullptr;
    if (operand.producer() != nullptr && operand.producer()->is("Concat")) {
        current = patchedPieces(*operand.producer(), wanted, *now, axisOf);
    }
    if (current == nullptr) current = twin(operand);
    if (anyWrong()) {
        // Corrected element by element: those that follow the input are scaled, the others replaced.
        std::vector<std::int64_t> factor(now->size(), 1), divisor(now->size(), 1), values(now->size(), 0);
        std::vector<bool> replace(now->size(), false);
        bool scales = false, replaces = false;
        for (std::size_t j = 0; j < now->size(); ++j) {
            if (!wrong(j)) continue;
            if (dependsOnInput(axisOf(j))) {
                const std::int64_t common = std::gcd(*wanted[j], (*now)[j]);
                if (common == 0) refuse(node, "an axis of size 0");
                factor[j] = *wanted[j] / common;
                divisor[j] = (*now)[j] / common;
                scales = true;
            } else {
                values[j] = *wanted[j];
                replace[j] = true;
                replaces = true;
            }
        }
        const auto add = [&](const char* type, std::vector<ir::Value*> inputs) {
            ir::NodeSpec spec;
            spec.opType = type;
            spec.name = fmt::format("{}_cut_{}", node.label(), type);
            spec.inputs = std::move(inputs);
            current = edit_.addNode(std::move(spec))->output();
        };
        if (scales) {
            add("Mul", {current, ints("cut_factor", factor, shape, old->dtype())});
            add("Div", {current, ints("cut_divisor", divisor, shape, old->dtype())});
        }
        if (replaces) {
            std::vector<std::int64_t> flags(replace.begin(), replace.end());
            add("Where", {ints("cut_elements", flags, shape, DType::boolean),
                          ints("cut_sizes", values, shape, old->dtype()), current});
        }
    }
    edit_.replaceInput(twin(node), input, current);
}

}  // namespace tcompress::analysis
