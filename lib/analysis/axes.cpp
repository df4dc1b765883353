#include "lib/analysis/axes.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "lib/analysis/axis_rules.h"
#include "lib/analysis/shape_rules.h"
#include "lib/analysis/sparse_storage.h"
#include "lib/support/error.h"

namespace tcompress::analysis {

namespace {

const AxisRules& axisRules() {
    static const AxisRules rules = [] {
        AxisRules all;
        addElementwiseAxisRules(all);
        addLayoutAxisRules(all);
        addIndexingAxisRules(all);
        addLinearAxisRules(all);
        addNormAxisRules(all);
        addQuantizationAxisRules(all);
        addFusedAxisRules(all);
        return all;
    }();
    return rules;
}

bool isRandom(const ir::Node& node) {
    return node.opType().rfind("Random", 0) == 0 || node.is("Bernoulli") || node.is("Multinomial");
}

}  // namespace

AxisBuilder::AxisBuilder(const ir::Model& model, const ProbeSizes& sizes) : model_(model) {
    out_.store = std::make_shared<AxisStore>();
    out_.shapes = concretise(model, sizes);
    for (const ir::Value* value : model.graph().values()) {
        if (auto shape = out_.shapes.shape(*value)) shapes_.emplace(value, std::move(*shape));
    }
}

ModelAxes AxisBuilder::build() {
    findConstants();
    findScorePaths();
    for (const ir::Value* input : model_.graph().inputs()) {
        if (shape(input) != nullptr) axes(input);
    }
    for (const auto& node : model_.graph().nodes()) visit(*node);
    freezeCaptured();
    out_.store->flatten();
    out_.unknownOperators.assign(unknown_.begin(), unknown_.end());
    return std::move(out_);
}

void AxisBuilder::findConstants() {
    for (const ir::Value* initializer : model_.graph().initializers()) {
        if (initializer->constant() != nullptr) out_.isConstant[initializer] = true;
    }
    for (const auto& node : model_.graph().nodes()) {
        if (isRandom(*node) || node->hasSubgraph()) continue;
        const bool constant = std::all_of(node->inputs().begin(), node->inputs().end(),
                                          [&](const ir::Value* v) { return v == nullptr || isConstant(v); });
        if (!constant) continue;
        for (const ir::Value* output : node->outputs()) {
            if (output != nullptr) out_.isConstant[output] = true;
        }
    }
}

void AxisBuilder::findScorePaths() {
    const auto& nodes = model_.graph().nodes();
    for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) {
        const ir::Node& node = **it;
        const bool leads =
            node.is("Softmax") || ((isElementwise(node) || isLayout(node)) && node.output() != nullptr &&
                                   beforeSoftmax_.count(node.output()) != 0);
        if (!leads) continue;
        for (const ir::Value* input : node.inputs()) {
            if (input != nullptr) beforeSoftmax_.insert(input);
        }
    }
}

void AxisBuilder::visit(const ir::Node& node) {
    if (node.is("Constant")) return;
    for (const ir::Value* input : node.inputs()) {
        if (input != nullptr && shape(input) == nullptr) {
            opaque(node, fmt::format("the shape of '{}' is not known", input->name()));
            return;
        }
    }
    const ir::Value* const result = node.output();
    if (result != nullptr && shape(result) != nullptr && restoresSparse(node)) {
        out_.axes[result] = fresh(*shape(result), "a weight stored without its zeros cannot be cut");
        return;
    }
    const auto rule = axisRules().find(qualifiedName(node));
    if (rule == axisRules().end()) {
        ++unknown_[qualifiedName(node)];
        opaque(node, fmt::format("operator {} has no axis rule", qualifiedName(node)));
        return;
    }
    try {
        NodeAxes context(*this, node);
        rule->second(context);
    } catch (const NotUnderstood& problem) {
        out_.conflicts.push_back({&node, problem.reason()});
        opaque(node, problem.reason());
    } catch (const AxisConflict& conflict) {
        out_.conflicts.push_back({&node, conflict.reason()});
        opaque(node, conflict.reason());
    } catch (const std::out_of_range&) {
        opaque(node, "an operand or a shape has fewer numbers than the operator takes");
    } catch (const ModelError& problem) {
        opaque(node, problem.what());
    }
    const bool continuesScore =
        isLayout(node) && node.input(0) != nullptr && scores_.count(node.input(0)) != 0;
    if (continuesScore && beforeSoftmax_.count(node.output()) != 0) scores_.insert(node.output());
    checkOutputs(node);
}

void AxisBuilder::opaque(const ir::Node& node, const std::string& reason) {
    const std::string why = fmt::format("{} '{}': {}", node.opType(), node.label(), reason);
    for (std::size_t i = 0; i < node.inputs().size(); ++i) {
        if (node.input(i) == nullptr || shape(node.input(i)) == nullptr) continue;
        for (const Axis& axis : axes(node, i)) out_.store->freeze(axis, why);
    }
    for (const ir::Value* output : node.outputs()) {
        if (output == nullptr || shape(output) == nullptr) continue;
        out_.axes[output] = fresh(*shape(output), why);
    }
}

// A rule that states other sizes than the tensor has is wrong about it: nothing there may be cut.
void AxisBuilder::checkOutputs(const ir::Node& node) {
    for (const ir::Value* output : node.outputs()) {
        if (output == nullptr || shape(output) == nullptr) continue;
        const auto found = out_.axes.find(output);
        if (found == out_.axes.end()) {
            out_.axes[output] = fresh(*shape(output), {});
            continue;
        }
        Shape stated;
        for (const Axis& axis : found->second) stated.push_back(out_.store->size(axis));
        if (stated == *shape(output)) continue;
        const std::string reason =
            fmt::format("axes {} for the shape {}", toString(stated), toString(*shape(output)));
        out_.conflicts.push_back({&node, reason});
        for (const Axis& axis : found->second) out_.store->freeze(axis, reason);
        found->second = fresh(*shape(output), reason);
    }
}

void AxisBuilder::freezeCaptured() {
    for (const ir::Value* value : model_.graph().values()) {
        const auto found = out_.axes.find(value);
        if (found == out_.axes.end()) continue;
        for (const ir::Use& use : value->uses()) {
            if (use.kind != ir::UseKind::captured) continue;
            for (const Axis& axis : found->second) {
                out_.store->freeze(axis, fmt::format("'{}' is used inside a sub-graph of '{}'", value->name(),
                                                     use.node->label()));
            }
        }
    }
}

const Shape* AxisBuilder::shape(const ir::Value* value) const {
    const auto found = shapes_.find(value);
    return found == shapes_.end() ? nullptr : &found->second;
}

const std::vector<Axis>& AxisBuilder::axes(const ir::Value* value) {
    const auto found = out_.axes.find(value);
    if (found != out_.axes.end()) return found->second;
    const Shape* known = shape(value);
    TCOMPRESS_CHECK(known != nullptr, "axes of a value without a shape");
    return out_.axes[value] = fresh(*known, {});
}

const std::vector<Axis>& AxisBuilder::axes(const ir::Node& node, std::size_t input) {
    const ir::Value* value = node.input(input);
    if (!isSharedVector(*value)) return axes(value);
    const auto [entry, added] = out_.sharedVectorAxes.try_emplace({&node, input});
    if (added) entry->second = fresh(*shape(value), {});
    return entry->second;
}

std::vector<Axis> AxisBuilder::fresh(const Shape& shape, const std::string& frozen) {
    std::vector<Axis> axes;
    for (std::int64_t size : shape) {
        axes.push_back(out_.store->axis(size));
        if (!frozen.empty()) out_.store->freeze(axes.back(), frozen);
    }
    return axes;
}

bool AxisBuilder::isConstant(const ir::Value* value) const { return out_.constant(value); }

// --- NodeAxes ---

std::int64_t NodeAxes::opset() const { return builder_.model_.opset(node_.domain()); }
AxisStore& NodeAxes::store() { return *builder_.out_.store; }
bool NodeAxes::isConstant(std::size_t input) const {
    return has(input) && builder_.isConstant(node_.input(input));
}

const Shape& NodeAxes::shape(std::size_t input) const {
    if (!has(input)) throw NotUnderstood(fmt::format("input {} is left out", input));
    return *builder_.shape(node_.input(input));
}

bool NodeAxes::hasOutput(std::size_t output) const {
    return node_.output(output) != nullptr && builder_.shape(node_.output(output)) != nullptr;
}

const Shape& NodeAxes::outputShape(std::size_t output) const {
    if (!hasOutput(output)) throw NotUnderstood("the shape of its output is not known");
    return *builder_.shape(node_.output(output));
}

const Shape& NodeAxes::outputOfSameRank() const {
    const Shape& out = outputShape(0);
    if (out.size() != shape(0).size()) throw NotUnderstood("an output of another rank");
    return out;
}

std::vector<std::int64_t> NodeAxes::ints(std::size_t input) const {
    if (has(input)) {
        if (auto value = builder_.out_.shapes.value(*node_.input(input))) return toInt64(*value);
    }
    throw NotUnderstood(fmt::format("the value of input {} is not known", input));
}

std::optional<std::vector<std::int64_t>> NodeAxes::operand(std::size_t input, const char* attribute) const {
    if (auto fromAttribute = node_.attributeInts(attribute)) return fromAttribute;
    if (has(input)) return ints(input);
    return {};
}

std::size_t NodeAxes::position(std::int64_t axis, std::size_t rank) const {
    const auto size = static_cast<std::int64_t>(rank);
    if (axis < -size || axis >= size) throw NotUnderstood(fmt::format("axis {} of rank {}", axis, rank));
    return static_cast<std::size_t>(axis < 0 ? axis + size : axis);
}

const std::vector<Axis>& NodeAxes::axes(std::size_t input) {
    if (!has(input)) throw NotUnderstood(fmt::format("input {} is left out", input));
    return builder_.axes(node_, input);
}

Axis NodeAxes::lastAxis(std::size_t input) {
    if (axes(input).empty()) throw NotUnderstood(fmt::format("input {} is a scalar", input));
    return axes(input).back();
}

void NodeAxes::set(std::size_t output, std::vector<Axis> axes) {
    if (node_.output(output) != nullptr) builder_.out_.axes[node_.output(output)] = std::move(axes);
}

void NodeAxes::setFresh(std::size_t output, const std::string& frozen) {
    if (hasOutput(output)) set(output, builder_.fresh(outputShape(output), frozen));
}

void NodeAxes::unify(const Axis& a, const Axis& b) {
    try {
        store().unify(a, b);
    } catch (const AxisConflict& conflict) {
        const std::string why = fmt::format("{} '{}': {}", node_.opType(), node_.label(), conflict.reason());
        builder_.out_.conflicts.push_back({&node_, conflict.reason()});
        store().freeze(a, why);
        store().freeze(b, why);
    }
}

void NodeAxes::unifyTrailing(std::size_t input, const std::vector<Axis>& target) {
    if (!has(input)) return;
    const std::vector<Axis> own = axes(input);
    for (std::size_t back = 1; back <= own.size() && back <= target.size(); ++back) {
        const Axis& axis = own[own.size() - back];
        const Axis& other = target[target.size() - back];
        if (!axis.empty() && !other.empty()) unify(axis, other);
    }
}

void NodeAxes::freeze(const Axis& axis, const std::string& reason) {
    store().freeze(axis, fmt::format("{} by {} '{}'", reason, node_.opType(), node_.label()));
}

void NodeAxes::freezeInput(std::size_t input, const std::string& reason) {
    if (!has(input)) return;
    for (const Axis& axis : axes(input)) freeze(axis, reason);
}

void NodeAxes::event(EventKind kind, const Axis& axis) {
    builder_.out_.events.push_back({kind, &node_, axis});
}

void NodeAxes::product(const Product& p) {
    if (node_.output() == nullptr) throw NotUnderstood("its output is left out");
    const bool constantA = isConstant(p.a);
    const bool constantB = isConstant(p.b);
    auto* node = const_cast<ir::Node*>(&node_);
    if (constantA != constantB) {
        builder_.out_.linears.push_back({node, node_.input(constantB ? p.b : p.a),
                                         node_.input(constantB ? p.a : p.b), node_.output(), p.contracted,
                                         constantB ? p.freeB : p.freeA});
    } else if (!constantA) {
        builder_.out_.activationMatmuls.push_back({node, node_.input(p.a), node_.input(p.b), node_.output(),
                                                   p.contracted, p.freeA, p.freeB, p.batch});
        if (builder_.beforeSoftmax_.count(node_.output()) != 0) builder_.scores_.insert(node_.output());
    }
}

void NodeAxes::fusedAttention(FusedAttention attention) {
    if (node_.output() == nullptr) throw NotUnderstood("its output is left out");
    attention.node = &node_;
    attention.output = node_.output();
    builder_.out_.fusedAttentions.push_back(std::move(attention));
}

void NodeAxes::broadcast(const std::vector<std::size_t>& inputs) {
    const Shape& out = outputShape(0);
    std::vector<std::size_t> tied = inputs;
    const auto isScore = [&](std::size_t i) { return builder_.scores_.count(node_.input(i)) != 0; };
    const auto score = std::find_if(inputs.begin(), inputs.end(), isScore);
    if (score != inputs.end()) {
        if (builder_.beforeSoftmax_.count(node_.output()) != 0) builder_.scores_.insert(node_.output());
        if (shape(*score) == out) {
            tied.clear();
            const std::vector<Axis> scoreAxes = axes(*score);
            for (std::size_t i : inputs) {
                if (isScore(i) || isConstant(i)) {
                    tied.push_back(i);
                    continue;
                }
                const std::vector<Axis> side = axes(i);
                if (side.size() > out.size()) throw NotUnderstood("an operand of more axes than its result");
                for (std::size_t k = 0; k < side.size(); ++k) {
                    if (side[k].empty()) continue;
                    builder_.out_.weakLinks.push_back({const_cast<ir::Node*>(&node_), node_.input(i), k,
                                                       side[k], scoreAxes[out.size() - side.size() + k]});
                }
            }
        }
    }
    std::vector<Axis> result;
    for (std::size_t j = 0; j < out.size(); ++j) {
        Axis current;
        for (std::size_t i : tied) {
            const std::vector<Axis>& own = axes(i);
            const std::size_t missing = out.size() - own.size();
            if (j < missing || own[j - missing].empty()) continue;
            const Axis axis = own[j - missing];
            if (current.empty()) {
                current = axis;
            } else {
                unify(current, axis);
            }
        }
        if (current.empty()) current = store().axis(out[j]);
        result.push_back(std::move(current));
    }
    set(0, std::move(result));
}

ModelAxes analyseAxes(const ir::Model& model, const ProbeSizes& sizes) {
    return AxisBuilder(model, sizes).build();
}

}  // namespace tcompress::analysis
