#include "lib/exec/optimize/rewriter.h"

#include <algorithm>

namespace tcompress::exec {

Rewriter::Rewriter(PlanGraph& graph)
    : graph_(graph), producers_(graph.values.size(), nullptr), users_(graph.values.size()) {
    for (PlanNode& node : graph.nodes) {
        nodes_.push_back(std::move(node));
        places_[&nodes_.back()] = std::prev(nodes_.end());
        link(nodes_.back());
    }
    graph.nodes.clear();
}

void Rewriter::link(PlanNode& node) {
    producers_.resize(graph_.values.size(), nullptr);
    users_.resize(graph_.values.size());
    for (ValueId id : node.inputs) {
        if (id != kNoValue) users_[static_cast<std::size_t>(id)].push_back(&node);
    }
    for (ValueId id : node.outputs) {
        if (id != kNoValue) producers_[static_cast<std::size_t>(id)] = &node;
    }
}

void Rewriter::unlink(PlanNode& node) {
    for (ValueId id : node.inputs) {
        if (id != kNoValue) std::erase(users_[static_cast<std::size_t>(id)], &node);
    }
    for (ValueId id : node.outputs) {
        if (id != kNoValue && producers_[static_cast<std::size_t>(id)] == &node) producers_[static_cast<std::size_t>(id)] = nullptr;
    }
}

PlanNode* Rewriter::producer(ValueId value) const { return value == kNoValue ? nullptr : producers_[static_cast<std::size_t>(value)]; }

PlanNode* Rewriter::producer(ValueId value, std::string_view opType) const {
    PlanNode* node = producer(value);
    return node && node->is(opType) ? node : nullptr;
}

PlanNode* Rewriter::soleUser(ValueId value) const {
    if (value == kNoValue || graph_.value(value).kept || users(value).size() != 1) return nullptr;
    return users(value).front();
}

std::optional<float> Rewriter::scalar(ValueId value) const {
    const Tensor* tensor = constant(value);
    if (!tensor || tensor->size() != 1 || !isFloatingPoint(tensor->dtype())) return std::nullopt;
    return toFloat32(*tensor).front();
}

std::optional<Rewriter::ScalarOperand> Rewriter::scalarOperand(const PlanNode& node) const {
    if (node.inputs.size() != 2) return std::nullopt;
    for (std::size_t i = 0; i < 2; ++i) {
        if (const auto found = scalar(node.inputs[i])) return ScalarOperand{node.inputs[1 - i], *found};
    }
    return std::nullopt;
}

PlanNode Rewriter::make(std::string_view domain, std::string_view opType, std::vector<ValueId> inputs, std::vector<ValueId> outputs,
                        const std::string& name, std::int64_t version) const {
    auto proto = std::make_shared<onnx::NodeProto>();
    proto->set_op_type(std::string(opType));
    proto->set_domain(std::string(domain));
    proto->set_name(name);
    PlanNode node;
    node.proto = proto;
    node.domain = domain;
    node.version = version;
    node.capturedFrom = inputs.size();
    node.inputs = std::move(inputs);
    node.outputs = std::move(outputs);
    return node;
}

PlanNode Rewriter::copyOf(const PlanNode& node, std::vector<ValueId> inputs, std::vector<ValueId> outputs) const {
    PlanNode copy = make(node.domain, node.opType(), std::move(inputs), std::move(outputs), node.label(), node.version);
    for (const onnx::AttributeProto& attribute : node.proto->attribute()) *protoOf(copy).add_attribute() = attribute;
    return copy;
}

onnx::NodeProto& protoOf(PlanNode& node) { return const_cast<onnx::NodeProto&>(*node.proto); }

PlanNode* Rewriter::replace(PlanNode& old, PlanNode replacement) {
    unlink(old);
    old = std::move(replacement);
    link(old);
    return &old;
}

ValueId Rewriter::insertBefore(PlanNode& place, std::string_view domain, std::string_view opType, std::vector<ValueId> inputs,
                               DType type, std::int64_t version) {
    PlanValue value;
    value.name = place.label() + "/" + std::string(opType);
    value.dtype = type;
    const ValueId output = graph_.addValue(std::move(value));
    insertAt(places_.at(&place), make(domain, opType, std::move(inputs), {output}, place.label(), version));
    return output;
}

PlanNode* Rewriter::insertAfter(PlanNode& place, PlanNode node) { return insertAt(std::next(places_.at(&place)), std::move(node)); }
PlanNode* Rewriter::insertFront(PlanNode node) { return insertAt(nodes_.begin(), std::move(node)); }

PlanNode* Rewriter::insertAt(std::list<PlanNode>::iterator at, PlanNode node) {
    const auto place = nodes_.insert(at, std::move(node));
    places_[&*place] = place;
    link(*place);
    return &*place;
}

void Rewriter::redirect(ValueId from, ValueId to) {
    producers_.resize(graph_.values.size(), nullptr);
    users_.resize(graph_.values.size());
    for (PlanNode* user : users_[static_cast<std::size_t>(from)]) {
        std::replace(user->inputs.begin(), user->inputs.end(), from, to);
        users_[static_cast<std::size_t>(to)].push_back(user);
    }
    users_[static_cast<std::size_t>(from)].clear();
}

void Rewriter::finish() {
    for (auto at = nodes_.end(); at != nodes_.begin();) {
        --at;
        const bool needed = std::any_of(at->outputs.begin(), at->outputs.end(), [&](ValueId id) {
            return id != kNoValue && (graph_.value(id).kept || !users(id).empty());
        });
        if (needed) continue;
        unlink(*at);
        at = nodes_.erase(at);
    }
    for (PlanNode& node : nodes_) graph_.nodes.push_back(std::move(node));
    nodes_.clear();
}

}  // namespace tcompress::exec
