#include "lib/analysis/shrink_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "lib/analysis/leaf_guard.h"
#include "lib/support/error.h"

namespace tcompress::analysis {

ShrinkPlan::ShrinkPlan(const ir::Model& model, const ModelAxes& axes, const KeepMasks& keep, ir::Model& trial,
                       std::string pass)
    : model_(model),
      axes_(axes),
      store_(*axes.store),
      keep_(keep),
      trial_(trial),
      edit_(trial, std::move(pass)) {
    for (const ir::Value* input : model.graph().inputs()) {
        const std::vector<Axis>* own = axes.of(input);
        const std::optional<Shape> declared = input->shape();
        if (own == nullptr) continue;
        for (std::size_t k = 0; k < own->size(); ++k) {
            if (declared && (*declared)[k] >= 0) continue;
            for (AtomId leaf : store_.leaves((*own)[k])) dynamicLeaves_.insert(leaf);
        }
    }
}

ShrinkReport ShrinkPlan::apply() {
    evaluate();
    cutConstants();
    cutSharedVectors();
    cutGraphValues();
    cutAttributes();
    patchShapeOperands();
    freezeShapeArithmetic();
    gatherWeakSides();
    edit_.commit();
    return report_;
}

void ShrinkPlan::evaluate() {
    after_ = evaluateValues(model_, [this](const ir::Value& value) { return predictedShape(value); });
    elsewhere_ = concretise(model_, alternativeSizes(model_));
}

std::optional<Shape> ShrinkPlan::predictedShape(const ir::Value& value) const {
    const std::vector<Axis>* own = axes_.of(&value);
    if (own == nullptr) return axes_.shapes.shape(value);
    Shape shape;
    for (const Axis& axis : *own) shape.push_back(store_.keptSize(axis, keep_));
    return shape;
}

bool ShrinkPlan::dependsOnInput(const Axis& axis) const {
    const std::vector<AtomId> below = store_.leaves(axis);
    return std::any_of(below.begin(), below.end(),
                       [&](AtomId leaf) { return dynamicLeaves_.count(leaf) != 0; });
}

bool ShrinkPlan::touches(const std::vector<Axis>& axes) const {
    return std::any_of(axes.begin(), axes.end(),
                       [&](const Axis& axis) { return store_.touches(axis, keep_); });
}

Tensor ShrinkPlan::cut(const Tensor& tensor, const std::vector<Axis>& axes) const {
    Tensor result = tensor;
    for (std::size_t k = 0; k < axes.size(); ++k) {
        if (store_.touches(axes[k], keep_)) {
            result = compress(result, static_cast<std::int64_t>(k), store_.mask(axes[k], keep_));
        }
    }
    return result;
}

void ShrinkPlan::refuse(const ir::Node& node, const std::string& reason) const {
    throw PassError(
        fmt::format("cannot remove these positions: {} '{}': {}", node.opType(), node.label(), reason));
}

ir::Node* ShrinkPlan::twin(const ir::Node& node) const {
    return trial_.graph().nodes()[node.position()].get();
}

ir::Value* ShrinkPlan::twin(const ir::Value& value) const {
    ir::Value* found = trial_.graph().find(value.name());
    TCOMPRESS_CHECK(found != nullptr, fmt::format("the copy has no value '{}'", value.name()));
    return found;
}

ir::Value* ShrinkPlan::constant(const std::string& name, const Tensor& data) {
    return edit_.addInitializer(name, data);
}

void ShrinkPlan::cutConstants() {
    for (const ir::Value* value : model_.graph().values()) {
        const std::vector<Axis>* own = axes_.of(value);
        if (value->constant() == nullptr || own == nullptr || !touches(*own)) continue;
        edit_.setConstant(twin(*value), cut(*value->constant(), *own));
        ++report_.weightsCut;
    }
}

void ShrinkPlan::cutSharedVectors() {
    for (const auto& node : model_.graph().nodes()) {
        for (std::size_t input = 0; input < node->inputs().size(); ++input) {
            const auto found = axes_.sharedVectorAxes.find({node.get(), input});
            if (found == axes_.sharedVectorAxes.end() || !touches(found->second)) continue;
            const ir::Value* shared = node->input(input);
            std::vector<bool> mask;
            for (const Axis& axis : found->second) {
                if (store_.touches(axis, keep_)) mask = store_.mask(axis, keep_);
            }
            const auto [copy, added] = cutVectors_.try_emplace({shared, mask}, nullptr);
            if (added) {
                copy->second = constant(shared->name(), cut(*shared->constant(), found->second));
                ++report_.weightsCut;
            }
            edit_.replaceInput(twin(*node), input, copy->second);
        }
    }
}

void ShrinkPlan::cutGraphValues() {
    const auto resize = [&](const ir::Value* value, const char* what) {
        const std::vector<Axis>* own = axes_.of(value);
        if (own == nullptr || !touches(*own)) return;
        const std::optional<Shape> declared = value->shape();
        for (std::size_t k = 0; k < own->size(); ++k) {
            if (!store_.touches((*own)[k], keep_) || !declared || (*declared)[k] < 0) continue;
            const std::int64_t size = store_.keptSize((*own)[k], keep_);
            edit_.setDimension(twin(*value), k, size);
            report_.notes.push_back(fmt::format("{} '{}': dimension {} is now {}, was {}", what,
                                                value->name(), k, size, (*declared)[k]));
        }
    };
    for (const ir::Value* input : model_.graph().inputs()) resize(input, "graph input");
    std::unordered_set<const ir::Value*> done;
    for (const ir::Value* output : model_.graph().outputs()) {
        if (!output->isGraphInput() && done.insert(output).second) resize(output, "graph output");
    }
}

namespace {

struct CountAttribute {
    const char* opType;
    const char* domain;
    const char* attribute;
};

// Attributes that hold numbers of query heads or of key/value heads.
constexpr CountAttribute kQueryHeads[] = {
    {"Attention", "com.microsoft", "num_heads"},
    {"QAttention", "com.microsoft", "num_heads"},
    {"MultiHeadAttention", "com.microsoft", "num_heads"},
    {"GroupQueryAttention", "com.microsoft", "num_heads"},
    {"Attention", "", "q_num_heads"},
};
constexpr CountAttribute kKeyHeads[] = {
    {"GroupQueryAttention", "com.microsoft", "kv_num_heads"},
    {"Attention", "", "kv_num_heads"},
};

bool applies(const CountAttribute& entry, const ir::Node& node) {
    return node.is(entry.domain, entry.opType) && node.attribute(entry.attribute) != nullptr;
}

}  // namespace

void ShrinkPlan::cutAttributes() {
    const auto set = [&](const ir::Node& node, const std::string& name, ir::AttributeValue value) {
        edit_.setAttribute(twin(node), {name, std::move(value)});
        ++report_.attributesPatched;
    };
    for (const FusedAttention& fused : axes_.fusedAttentions) {
        const ir::Node& node = *fused.node;
        if (!touches({fused.group, fused.repeat, fused.headDim, fused.valueDim})) continue;
        const std::int64_t groups = store_.keptSize(fused.group, keep_);
        const std::int64_t heads = groups * store_.keptSize(fused.repeat, keep_);
        for (const CountAttribute& entry : kQueryHeads) {
            if (applies(entry, node)) set(node, entry.attribute, heads);
        }
        for (const CountAttribute& entry : kKeyHeads) {
            if (applies(entry, node)) set(node, entry.attribute, groups);
        }
        if (node.is("com.microsoft", "Attention")) {
            const std::int64_t query = heads * store_.keptSize(fused.headDim, keep_);
            const std::int64_t value = heads * store_.keptSize(fused.valueDim, keep_);
            set(node, "qkv_hidden_sizes", std::vector<std::int64_t>{query, query, value});
        }
    }
    for (const auto& node : model_.graph().nodes()) {
        const std::vector<Axis>* in = node->input(0) == nullptr ? nullptr : axes_.of(node->input(0));
        if (in == nullptr || !touches(*in)) continue;
        const std::int64_t groups = node->attributeInt("group", 1);
        if ((node->is("Conv") || node->is("ConvInteger")) && groups > 1 && store_.touches(in->at(1), keep_)) {
            // Only depthwise convolutions get here: their groups are their channels.
            set(*node, "group", store_.keptSize(in->at(1), keep_));
        }
        if (node->opType() == "RotaryEmbedding" && in->size() == 3 &&
            node->attributeInt("num_heads", 0) > 0) {
            const std::int64_t whole = store_.size((*in)[2]);
            set(*node, "num_heads",
                node->attributeInt("num_heads", 0) * store_.keptSize((*in)[2], keep_) / whole);
        }
    }
}

// A number computed from shapes that are cut now but used as data (a scale √(head size), the limit of a
// Range) must stay what it was: the masked model would still compute it from the old shape.
void ShrinkPlan::freezeShapeArithmetic() {
    std::unordered_map<const ir::Value*, ir::Value*> frozen;
    for (const auto& node : model_.graph().nodes()) {
        const bool onlyArithmetic = std::all_of(
            node->outputs().begin(), node->outputs().end(),
            [&](const ir::Value* v) { return v == nullptr || axes_.shapes.value(*v).has_value(); });
        if (onlyArithmetic) continue;
        for (std::size_t i = 0; i < node->inputs().size(); ++i) {
            const ir::Value* input = node->input(i);
            if (input == nullptr || input->constant() != nullptr || isShapeOperand(*node, i)) continue;
            const std::optional<Tensor> before = axes_.shapes.value(*input);
            if (!before) continue;
            const std::optional<Tensor> after = after_.value(*input);
            // Made of constants that are cut themselves: data, though an input size may say how often they are repeated.
            if (!after && (axes_.constant(input) || (isFloatingPoint(before->dtype()) && touches(*axes_.of(input))))) continue;
            const Tensor wanted = cut(*before, *axes_.of(input));
            if (after && std::equal(wanted.bytes().begin(), wanted.bytes().end(), after->bytes().begin(),
                                    after->bytes().end())) {
                continue;
            }
            const std::optional<Tensor> other = elsewhere_.value(*input);
            const bool same =
                other && other->shape() == before->shape() &&
                std::equal(before->bytes().begin(), before->bytes().end(), other->bytes().begin());
            if (!same) {
                refuse(*node, fmt::format("'{}' is computed from the shapes that change and from input sizes",
                                          input->name()));
            }
            ir::Value*& replacement = frozen[input];
            if (replacement == nullptr) replacement = constant(input->name() + "_kept", wanted);
            edit_.replaceInput(twin(*node), i, replacement);
            ++report_.shapeOperandsPatched;
        }
    }
}

void ShrinkPlan::gatherWeakSides() {
    std::map<std::pair<const ir::Node*, const ir::Value*>, ir::Value*> current;
    for (const WeakLink& link : axes_.weakLinks) {
        const std::vector<bool> side = store_.mask(link.sideAxes, keep_);
        const std::vector<bool> score = store_.mask(link.scoreAxes, keep_);
        if (side == score) continue;
        if (std::count(side.begin(), side.end(), false) != 0) {
            refuse(*link.node,
                   fmt::format("its operand '{}' loses other positions than the scores", link.side->name()));
        }
        std::vector<std::int64_t> kept;
        for (std::size_t i = 0; i < score.size(); ++i) {
            if (score[i]) kept.push_back(static_cast<std::int64_t>(i));
        }
        ir::Value*& value = current[{link.node, link.side}];
        if (value == nullptr) value = twin(*link.side);
        ir::Value* indices = ints("kept_heads", kept, {static_cast<std::int64_t>(kept.size())}, DType::int64);
        ir::NodeSpec gather;
        gather.opType = "Gather";
        gather.name = fmt::format("{}_kept_heads", link.node->label());
        gather.inputs = {value, indices};
        gather.attributes = {{"axis", static_cast<std::int64_t>(link.sideAxis)}};
        value = edit_.addNode(std::move(gather))->output();
        for (std::size_t i = 0; i < link.node->inputs().size(); ++i) {
            if (link.node->input(i) == link.side) edit_.replaceInput(twin(*link.node), i, value);
        }
        ++report_.shapeOperandsPatched;
    }
}

ir::Value* ShrinkPlan::ints(const std::string& name, const std::vector<std::int64_t>& values,
                            const Shape& shape, DType type) {
    const Tensor wide = Tensor::of<std::int64_t>(shape, std::span<const std::int64_t>(values));
    return constant(name, type == DType::int64 ? wide : convert(wide, type));
}

std::optional<std::vector<std::int64_t>> ShrinkPlan::valueNow(const ir::Value& value) const {
    const std::optional<Tensor> tensor = after_.value(value);
    if (!tensor) return {};
    return toInt64(*tensor);
}

}  // namespace tcompress::analysis
