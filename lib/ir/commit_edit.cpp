// The second half of an Edit: check() looks at the graph as it will be and throws; apply() then only moves
// things.

#include <fmt/core.h>

#include <algorithm>

#include "lib/ir/edit_state.h"
#include "lib/ir/internals.h"
#include "lib/ir/provenance.h"
#include "lib/ir/topology.h"
#include "lib/support/check.h"
#include "lib/support/error.h"

namespace tcompress::ir {
namespace {

bool isConstantAttribute(const onnx::AttributeProto& attribute) {
    return attribute.name() == "sparse_value" || attribute.name().starts_with("value");
}

class Commit {
  public:
    explicit Commit(EditState state)
        : state_(std::move(state)), model_(state_.model), graph_(model_.graph()) {}

    void check() {
        TCOMPRESS_CHECK(state_.revision == model_.revision(),
                        "the model was changed while an edit was gathered");
        checkCaptures();
        checkDomains();
        checkDimensions();
        planOutputs();
        countUses();
        findDead();
        checkRemoved();
        order();
    }

    void apply() {
        applyOpsets();
        applyConstants();
        applyProtosAndInputs();
        moveNodes();
        moveValues();
        applyDimensions();
        dropTypes();
        indexGraph(graph_);
        Internals::revision(model_) = Internals::nextRevision();
    }

  private:
    EditState state_;
    Model& model_;
    Graph& graph_;

    std::unordered_map<const Value*, std::size_t> useCounts_;  ///< in the graph as it will be
    std::unordered_set<const Node*> dead_;                     ///< left without use by this edit
    std::unordered_set<const Value*> gone_;                    ///< outputs of such nodes, and initializers
    std::vector<Node*> order_;
    // Outputs that were replaced give their names away, and those that take their place get them.
    std::vector<std::pair<Value*, std::string>> displaced_;
    std::vector<std::pair<Value*, std::string>> named_;
    std::unordered_set<const Node*> changed_;  ///< nodes whose output types may differ

    template <class Visit>
    void forEachNode(Visit&& visit) const {
        for (const std::unique_ptr<Node>& node : graph_.nodes()) visit(*node);
        for (const std::unique_ptr<Node>& node : state_.newNodes) visit(*node);
    }

    bool isGone(const Node& node) const { return state_.removed.contains(&node) || dead_.contains(&node); }

    // ---- check ----

    void checkCaptures() const {
        for (const Replacement& replacement : state_.replacements) {
            for (const Use& use : replacement.from->uses()) {
                bool stays = state_.removed.contains(use.node) || replacement.except.contains(use.node);
                if (use.kind != UseKind::captured || stays) continue;
                throw PassError(fmt::format(
                    "{}: '{}' is used inside a sub-graph of node '{}' ({}) and cannot be replaced",
                    state_.pass, replacement.from->name(), use.node->label(), use.node->opType()));
            }
        }
    }

    std::int64_t opsetAfter(const std::string& domain) const {
        auto wanted = state_.opsets.find(domain);
        return std::max(model_.opset(domain), wanted != state_.opsets.end() ? wanted->second : 0);
    }

    void checkDomains() const {
        auto wanted = state_.opsets.find("");
        TCOMPRESS_CHECK(wanted == state_.opsets.end() || wanted->second <= model_.opset(),
                        fmt::format("opset {} is wanted and the model has {}: raiseOpset comes first",
                                    wanted->second, model_.opset()));
        forEachNode([this](const Node& node) {
            bool isUnchanged = !state_.touched.contains(&node);
            if (isUnchanged) return;
            std::string domain = normalizedDomain(state_.protoOf(node).domain());
            TCOMPRESS_CHECK(opsetAfter(domain) > 0,
                            fmt::format("node '{}' needs domain '{}', which the model does not import",
                                        node.label(), domain));
        });
    }

    static int rankOf(const onnx::TypeProto& type) {
        return type.has_tensor_type() && type.tensor_type().has_shape()
                   ? type.tensor_type().shape().dim_size()
                   : 0;
    }

    void checkDimensions() const {
        for (const DimensionChange& change : state_.dimensions) {
            bool found = false;
            auto look = [&](const std::vector<onnx::ValueInfoProto>& infos) {
                for (const onnx::ValueInfoProto& info : infos) {
                    if (info.name() != change.value->name()) continue;
                    found = true;
                    TCOMPRESS_CHECK(static_cast<int>(change.axis) < rankOf(info.type()),
                                    fmt::format("'{}' has no axis {}", info.name(), change.axis));
                }
            };
            look(Internals::inputInfo(graph_));
            look(Internals::outputInfo(graph_));
            TCOMPRESS_CHECK(found,
                            fmt::format("'{}' is neither a graph input nor output", change.value->name()));
        }
    }

    bool isCaptured(const Value& value) const {
        return std::any_of(value.uses().begin(), value.uses().end(), [&](const Use& use) {
            return use.kind == UseKind::captured && !state_.removed.contains(use.node);
        });
    }

    /// A graph output keeps its name: the value that takes its place is renamed, or copied by an Identity
    /// where it must keep a name of its own.
    void planOutputs() {
        std::unordered_set<const Value*> hasName;  // values that are called after an output already
        const std::size_t count = graph_.outputs().size();  // what stands behind them is new
        for (std::size_t i = 0; i < state_.outputs.size(); ++i) {
            if (i >= count || state_.outputs[i] == graph_.outputs()[i]) hasName.insert(state_.outputs[i]);
        }
        std::unordered_map<const Value*, Value*> successors;  // an output may be listed twice
        for (std::size_t i = 0; i < count; ++i) {
            Value* before = graph_.outputs()[i];
            Value*& after = state_.outputs[i];
            if (after == before || after == nullptr) continue;
            auto [successor, isFirst] = successors.try_emplace(before, nullptr);
            if (isFirst) successor->second = takeName(*before, after, hasName);
            after = successor->second;
        }
    }

    Value* takeName(Value& before, Value* after, std::unordered_set<const Value*>& hasName) {
        const std::string name = before.name();
        if (before.isGraphInput()) {
            throw PassError(fmt::format("{}: graph output '{}' is a graph input and cannot be replaced",
                                        state_.pass, name));
        }
        bool canBeRenamed = after->producer() != nullptr && !isCaptured(*after) && !hasName.contains(after);
        if (!canBeRenamed)
            after = state_.addNode({"Identity", "", name + "_identity", {after}, 1, {}})->output();
        hasName.insert(after);
        displaced_.emplace_back(&before, state_.names.forValue(name + "_replaced"));
        named_.emplace_back(after, name);
        return after;
    }

    void countUses() {
        forEachNode([this](const Node& node) {
            if (state_.removed.contains(&node)) return;
            for (const Value* input : state_.inputsOf(node)) ++useCounts_[input];
            for (const Value* value : node.captured()) ++useCounts_[value];
        });
        for (const Value* output : state_.outputs) {
            if (output != nullptr) ++useCounts_[output];
        }
    }

    bool isUsed(const Value* value) const {
        auto found = useCounts_.find(value);
        return value != nullptr && found != useCounts_.end() && found->second > 0;
    }

    void checkRemoved() const {
        for (const Value* input : state_.removedInputs) {
            TCOMPRESS_CHECK(!isUsed(input),
                            fmt::format("graph input '{}' is removed and still used", input->name()));
        }
        bool hasOutput = std::any_of(state_.outputs.begin(), state_.outputs.end(),
                                     [](const Value* output) { return output != nullptr; });
        TCOMPRESS_CHECK(hasOutput, "the edit leaves no graph output");
        for (const Node* node : state_.removed) {
            for (const Value* output : node->outputs()) {
                TCOMPRESS_CHECK(!isUsed(output),
                                fmt::format("node '{}' is removed and its output '{}' is still used",
                                            node->label(), output->name()));
            }
        }
    }

    /// Nodes and initializers that this edit leaves without use, and what only they used. What was unused
    /// before stays.
    void findDead() {
        std::vector<const Node*> waiting;
        auto lostAllUses = [this](const Node& node) {
            const std::vector<Value*>& outputs = node.outputs();
            return std::none_of(outputs.begin(), outputs.end(),
                                [this](const Value* value) { return isUsed(value); });
        };
        auto release = [&](const Value* value) {
            if (value == nullptr || --useCounts_.at(value) > 0) return;
            if (const Node* producer = value->producer()) {
                if (!state_.removed.contains(producer)) waiting.push_back(producer);
            }
        };
        for (const std::unique_ptr<Node>& node : graph_.nodes()) {
            bool wasUsed =
                std::any_of(node->outputs().begin(), node->outputs().end(),
                            [](const Value* value) { return value != nullptr && !value->uses().empty(); });
            if (wasUsed && !state_.removed.contains(node.get())) waiting.push_back(node.get());
        }
        for (const std::unique_ptr<Node>& node : state_.newNodes) {
            if (!state_.removed.contains(node.get())) waiting.push_back(node.get());
        }
        while (!waiting.empty()) {
            const Node* node = waiting.back();
            waiting.pop_back();
            if (!lostAllUses(*node) || !dead_.insert(node).second) continue;
            for (const Value* input : state_.inputsOf(*node)) release(input);
            for (const Value* value : node->captured()) release(value);
        }
        for (const Value* value : graph_.initializers()) {
            bool isDefault = value->isGraphInput() && value->constantKind() == ConstantKind::none;
            if (!isUsed(value) && !value->uses().empty() && !isDefault) gone_.insert(value);
        }
        for (const Value* value : state_.newInitializers) {
            if (!isUsed(value)) gone_.insert(value);
        }
        gone_.insert(state_.removedInputs.begin(), state_.removedInputs.end());
        forEachNode([this](const Node& node) {
            if (isGone(node)) gone_.insert(node.outputs().begin(), node.outputs().end());
        });
    }

    void order() {
        std::vector<Node*> base;
        forEachNode([&](const Node& node) {
            if (!isGone(node)) base.push_back(const_cast<Node*>(&node));
        });
        // New nodes stand last and so are met as dependencies first: directly before their first user.
        Ordering ordering = stableTopologicalOrder(base, [this](const Node& node, const auto& visit) {
            for (const Value* input : state_.inputsOf(node)) {
                if (input != nullptr) visit(input->producer());
            }
            for (const Value* value : node.captured()) visit(value->producer());
        });
        TCOMPRESS_CHECK(
            ordering.onCycle == nullptr,
            fmt::format("the edit makes node '{}' depend on its own output", ordering.onCycle->label()));
        order_ = std::move(ordering.nodes);
    }

    // ---- apply ----

    void applyOpsets() {
        for (const auto& [domain, version] : state_.opsets) {
            auto& imports = *Internals::envelope(model_).mutable_opset_import();
            auto found =
                std::find_if(imports.begin(), imports.end(), [&, &wanted = domain](const auto& import) {
                    return normalizedDomain(import.domain()) == wanted;
                });
            onnx::OperatorSetIdProto& import = found != imports.end() ? *found : *imports.Add();
            if (found == imports.end() || import.version() < version) {
                import.set_domain(domain);
                import.set_version(version);
            }
        }
    }

    void applyConstants() {
        for (auto& [value, data] : state_.constants) {
            std::shared_ptr<StoredTensor> stored = store(data, value->name());
            if (const auto& old = Internals::stored(*value); old && !old->sparse) {
                stored->proto.set_doc_string(old->proto.doc_string());
                if (!old->proto.has_doc_string()) stored->proto.clear_doc_string();
                *stored->proto.mutable_metadata_props() = old->proto.metadata_props();
            }
            if (value->constantKind() == ConstantKind::constantNode) {
                rewriteConstantNode(*value);
            } else {
                addProvenance(*stored->proto.mutable_metadata_props(), state_.pass);
            }
            // Integers may be shapes and axes, whose values decide on types.
            bool sameType = data.dtype() == value->constant()->dtype() &&
                            data.shape() == value->constant()->shape() && isFloatingPoint(data.dtype());
            for (const Use& use : value->uses()) {
                if (!sameType && use.node != nullptr) changed_.insert(use.node);
            }
            Internals::stored(*value) = std::move(stored);
            Internals::constant(*value) = std::move(data);
            declareConstant(*value);
        }
        for (Value* value : state_.newInitializers) {
            auto stored = std::make_shared<StoredTensor>(*Internals::stored(*value));
            addProvenance(*stored->proto.mutable_metadata_props(), state_.pass);
            Internals::stored(*value) = std::move(stored);
        }
    }

    /// The data themselves are put into the attribute when the model is written.
    void rewriteConstantNode(Value& value) {
        Node& node = *value.producer();
        onnx::NodeProto& proto = state_.mutableProtoOf(node);
        auto& attributes = *proto.mutable_attribute();
        attributes.erase(std::remove_if(attributes.begin(), attributes.end(), isConstantAttribute),
                         attributes.end());
        onnx::AttributeProto& attribute = *attributes.Add();
        attribute.set_name("value");
        attribute.set_type(onnx::AttributeProto::TENSOR);
        attribute.mutable_t();
    }

    /// The type of a constant; also where an old model lists it among the inputs.
    void declareConstant(Value& value) {
        onnx::TypeProto type;
        type.mutable_tensor_type()->set_elem_type(static_cast<std::int32_t>(value.constant()->dtype()));
        auto& shape = *type.mutable_tensor_type()->mutable_shape();
        for (std::int64_t size : value.constant()->shape()) shape.add_dim()->set_dim_value(size);
        for (onnx::ValueInfoProto& info : Internals::inputInfo(graph_)) {
            if (info.name() == value.name()) *info.mutable_type() = type;
        }
        if (value.type() != nullptr) Internals::type(value) = std::move(type);
    }

    void applyProtosAndInputs() {
        for (Node* node : order_) {
            if (auto found = state_.protos.find(node); found != state_.protos.end()) {
                Internals::proto(*node) = std::move(found->second);
                Internals::domain(*node) = normalizedDomain(node->proto().domain());
                changed_.insert(node);
            }
            if (auto found = state_.inputs.find(node); found != state_.inputs.end()) {
                Internals::inputs(*node) = std::move(found->second);
                changed_.insert(node);
            }
            if (state_.isNew.contains(node)) changed_.insert(node);
            if (state_.touched.contains(node)) {
                addProvenance(*Internals::proto(*node).mutable_metadata_props(), state_.pass);
            }
        }
    }

    void moveNodes() {
        std::unordered_map<const Node*, std::unique_ptr<Node>> owners;
        for (auto* list : {&Internals::nodes(graph_), &state_.newNodes}) {
            for (std::unique_ptr<Node>& node : *list) {
                const Node* key = node.get();
                owners[key] = std::move(node);
            }
            list->clear();
        }
        for (Node* node : order_) Internals::nodes(graph_).push_back(std::move(owners.at(node)));
    }

    void moveValues() {
        auto& values = Internals::values(graph_);
        for (const Value* value : gone_) {
            auto found = value != nullptr ? values.find(value->name()) : values.end();
            bool isInGraph = found != values.end() && found->second.get() == value;
            if (isInGraph) state_.newValues.push_back(std::move(values.extract(found).mapped()));
        }
        auto isGone = [this](const Value* value) { return gone_.contains(value); };
        std::erase_if(Internals::initializers(graph_), isGone);
        std::erase_if(Internals::inputs(graph_), isGone);
        std::erase_if(Internals::inputInfo(graph_), [&](const onnx::ValueInfoProto& info) {
            return !values.contains(info.name());  // old models list initializers as inputs
        });

        // All names that are given away first: outputs may exchange theirs.
        std::vector<std::unique_ptr<Value>> renamed;
        for (auto* list : {&displaced_, &named_}) {
            for (auto& [value, name] : *list) {
                auto found = values.find(value->name());
                bool isInGraph = found != values.end() && found->second.get() == value;
                if (isInGraph) renamed.push_back(std::move(values.extract(found).mapped()));
            }
        }
        for (auto* list : {&displaced_, &named_}) {
            for (auto& [value, name] : *list) Internals::name(*value) = name;
        }
        for (auto* list : {&renamed, &state_.newValues}) {
            for (std::unique_ptr<Value>& value : *list) {
                if (isGone(value.get())) continue;
                bool isInitializer = value->constantKind() == ConstantKind::initializer;
                bool isNewInitializer = isInitializer && list == &state_.newValues;
                if (isNewInitializer) Internals::initializers(graph_).push_back(value.get());
                std::string name = value->name();
                values.emplace(std::move(name), std::move(value));
            }
        }
        setOutputs();
    }

    void setOutputs() {
        std::vector<onnx::ValueInfoProto> infos, &known = Internals::outputInfo(graph_);
        Internals::outputs(graph_).clear();
        for (std::size_t i = 0; i < state_.outputs.size(); ++i) {
            if (state_.outputs[i] == nullptr) continue;
            Internals::outputs(graph_).push_back(state_.outputs[i]);
            infos.push_back(i < known.size() ? std::move(known[i]) : infoOf(*state_.outputs[i]));
        }
        known = std::move(infos);
    }

    static onnx::ValueInfoProto infoOf(const Value& value) {
        onnx::ValueInfoProto info;
        info.set_name(value.name());
        if (value.type() != nullptr) *info.mutable_type() = *value.type();
        return info;
    }

    static void setDimension(onnx::TypeProto& type, const DimensionChange& change) {
        auto& dimension =
            *type.mutable_tensor_type()->mutable_shape()->mutable_dim(static_cast<int>(change.axis));
        if (change.size >= 0) {
            dimension.set_dim_value(change.size);
        } else if (dimension.has_dim_value()) {
            dimension.clear_dim_value();
        }
    }

    void applyDimensions() {
        for (const DimensionChange& change : state_.dimensions) {
            for (auto* infos : {&Internals::inputInfo(graph_), &Internals::outputInfo(graph_)}) {
                for (onnx::ValueInfoProto& info : *infos) {
                    if (info.name() != change.value->name()) continue;
                    setDimension(*info.mutable_type(), change);
                    Internals::type(*change.value) = info.type();
                }
            }
            for (const Use& use : change.value->uses()) {
                if (use.node != nullptr) changed_.insert(use.node);
            }
        }
    }

    /// Everything that depends on what changed; the graph's outputs keep what the file declares.
    void dropTypes() {
        std::unordered_set<const Value*> stale;
        auto isStale = [&](const Value* value) { return stale.contains(value); };
        for (const std::unique_ptr<Node>& node : graph_.nodes()) {
            bool differs = changed_.contains(node.get()) ||
                           std::any_of(node->inputs().begin(), node->inputs().end(), isStale) ||
                           std::any_of(node->captured().begin(), node->captured().end(), isStale);
            if (!differs) continue;
            for (Value* output : node->outputs()) {
                if (output == nullptr || output->constantKind() == ConstantKind::constantNode) continue;
                Internals::type(*output).reset();
                stale.insert(output);
            }
        }
        for (std::size_t i = 0; i < graph_.outputs().size(); ++i) {
            const onnx::ValueInfoProto& info = Internals::outputInfo(graph_)[i];
            Value& value = *graph_.outputs()[i];
            if (value.type() == nullptr && info.has_type()) Internals::type(value) = info.type();
        }
    }
};

}  // namespace

void commitEdit(EditState state) {
    Commit commit(std::move(state));
    commit.check();
    commit.apply();
}

}  // namespace tcompress::ir
