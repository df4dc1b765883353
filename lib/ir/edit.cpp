#include "lib/ir/edit.h"

#include <fmt/core.h>

#include <algorithm>
#include <future>
#include <optional>
#include <type_traits>
#include <utility>

#include "lib/ir/edit_state.h"
#include "lib/ir/internals.h"
#include "lib/support/check.h"
#include "lib/tensor/spilled.h"

namespace tcompress::ir {
namespace {

onnx::AttributeProto toProto(const Attribute& attribute) {
    onnx::AttributeProto proto;
    proto.set_name(attribute.name);
    std::visit(
        [&](const auto& value) {
            using T = std::decay_t<decltype(value)>;
            if constexpr (std::is_same_v<T, std::int64_t>) {
                proto.set_type(onnx::AttributeProto::INT);
                proto.set_i(value);
            } else if constexpr (std::is_same_v<T, float>) {
                proto.set_type(onnx::AttributeProto::FLOAT);
                proto.set_f(value);
            } else if constexpr (std::is_same_v<T, std::string>) {
                proto.set_type(onnx::AttributeProto::STRING);
                proto.set_s(value);
            } else if constexpr (std::is_same_v<T, std::vector<std::int64_t>>) {
                proto.set_type(onnx::AttributeProto::INTS);
                proto.mutable_ints()->Assign(value.begin(), value.end());
            } else if constexpr (std::is_same_v<T, std::vector<float>>) {
                proto.set_type(onnx::AttributeProto::FLOATS);
                proto.mutable_floats()->Assign(value.begin(), value.end());
            } else {
                proto.set_type(onnx::AttributeProto::TENSOR);
                onnx::TensorProto& tensor = *proto.mutable_t();
                for (std::int64_t size : value.shape()) tensor.add_dims(size);
                tensor.set_data_type(static_cast<std::int32_t>(value.dtype()));
                tensor.set_raw_data(value.bytes().data(), value.bytes().size());
            }
        },
        attribute.value);
    return proto;
}

void trimLeftOut(std::vector<Value*>& values) {
    while (!values.empty() && values.back() == nullptr) values.pop_back();
}

}  // namespace

EditState::EditState(Model& edited, std::string passName)
    : model(edited),
      pass(std::move(passName)),
      revision(edited.revision()),
      names(edited.graph()),
      outputs(edited.graph().outputs()) {
    for (const std::unique_ptr<Node>& node : edited.graph().nodes()) knownNodes.insert(node.get());
    for (const auto& [name, value] : Internals::values(edited.graph())) knownValues.insert(value.get());
}

const std::vector<Value*>& EditState::inputsOf(const Node& node) const {
    auto found = inputs.find(&node);
    return found != inputs.end() ? found->second : node.inputs();
}

std::vector<Value*>& EditState::mutableInputsOf(Node& node) {
    if (isNew.contains(&node)) return Internals::inputs(node);
    return inputs.try_emplace(&node, node.inputs()).first->second;
}

const onnx::NodeProto& EditState::protoOf(const Node& node) const {
    auto found = protos.find(&node);
    return found != protos.end() ? found->second : node.proto();
}

onnx::NodeProto& EditState::mutableProtoOf(Node& node) {
    TCOMPRESS_CHECK(knownNodes.contains(&node),
                    "the node is not in this model (removed by an earlier edit?)");
    empty = false;
    touched.insert(&node);
    if (isNew.contains(&node)) return Internals::proto(node);
    return protos.try_emplace(&node, node.proto()).first->second;
}

Node* EditState::addNode(NodeSpec spec) {
    empty = false;
    onnx::NodeProto proto;
    proto.set_op_type(spec.opType);
    proto.set_name(names.forNode(spec.name.empty() ? spec.opType : spec.name));
    if (!spec.domain.empty()) proto.set_domain(spec.domain);
    for (const Attribute& attribute : spec.attributes) *proto.add_attribute() = toProto(attribute);

    Node* node = newNodes.emplace_back(Internals::makeNode(std::move(proto))).get();
    knownNodes.insert(node);
    isNew.insert(node);
    touched.insert(node);
    for (std::size_t i = 0; i < spec.outputCount; ++i) {
        std::string name = names.forValue(fmt::format("{}_output_{}", node->name(), i));
        Value* output = newValues.emplace_back(Internals::makeValue(std::move(name))).get();
        knownValues.insert(output);
        Internals::producer(*output) = node;
        Internals::outputs(*node).push_back(output);
    }
    trimLeftOut(spec.inputs);
    for (std::size_t i = 0; i < spec.inputs.size(); ++i) setInput(*node, i, spec.inputs[i]);
    return node;
}

void EditState::setInput(Node& node, std::size_t index, Value* value) {
    TCOMPRESS_CHECK(knownNodes.contains(&node),
                    "the node is not in this model (removed by an earlier edit?)");
    TCOMPRESS_CHECK(
        value == nullptr || knownValues.contains(value),
        fmt::format("an input of '{}' is not in this model (removed by an earlier edit?)", node.label()));
    empty = false;
    std::vector<Value*>& list = mutableInputsOf(node);
    if (index >= list.size()) list.resize(index + 1, nullptr);
    list[index] = value;
    trimLeftOut(list);
    if (value != nullptr) gainedUsers[value].push_back(&node);
}

struct Edit::Impl {
    Model& model;
    std::string pass;
    std::optional<EditState> state;
    /// What new initializers may still take of memory; none: as much as they want.
    std::optional<std::uint64_t> memoryLeft;

    /// The initializer whose data are on their way to a temporary file; they stay in memory until they are
    /// there.
    Value* spilling = nullptr;
    std::future<Tensor> spill{};

    /// One at a time, so that no more than one waits in memory.
    void keepOrSpill(Value& value) {
        constexpr std::size_t smallest = 65536;  // a temporary file for less is not worth it
        const Tensor& data = *value.constant();
        if (!memoryLeft || data.sizeBytes() < smallest) return;
        if (data.sizeBytes() <= *memoryLeft) {
            *memoryLeft -= data.sizeBytes();
            return;
        }
        finishSpill();
        spilling = &value;
        spill = spilled(data);
    }
    void finishSpill() {
        if (spilling == nullptr) return;
        Value& value = *std::exchange(spilling, nullptr);
        hold(value, spill.get());
    }

    static void hold(Value& value, Tensor data) {
        Internals::stored(value) = store(data, value.name());
        Internals::constant(value) = std::move(data);
    }

    /// The snapshot is taken with the first change, so that an Edit may be made before another one commits.
    EditState& begin() {
        if (!state) state.emplace(model, pass);
        return *state;
    }
    EditState& change() {
        begin().empty = false;
        return *state;
    }
    void checkValue(const Value* value) {
        TCOMPRESS_CHECK(value != nullptr && begin().knownValues.contains(value),
                        "the value is not in this model (removed by an earlier edit?)");
    }
};

Edit::Edit(Model& model, std::string pass) : impl_(new Impl{model, std::move(pass), std::nullopt, std::nullopt}) {}

Edit::~Edit() = default;

Value* Edit::addInitializer(std::string_view name, Tensor data) {
    EditState& state = impl_->change();
    TCOMPRESS_CHECK(bitsPerElement(data.dtype()) > 0, "an initializer without numbers");
    auto value = Internals::makeValue(state.names.forValue(name.empty() ? "constant" : name));
    Internals::constantKind(*value) = ConstantKind::initializer;
    Impl::hold(*value, std::move(data));
    impl_->keepOrSpill(*value);
    state.knownValues.insert(value.get());
    state.newInitializers.push_back(value.get());
    return state.newValues.emplace_back(std::move(value)).get();
}

void Edit::keepInMemory(std::uint64_t bytes) { impl_->memoryLeft = bytes; }

Node* Edit::addNode(NodeSpec spec) { return impl_->begin().addNode(std::move(spec)); }

void Edit::setConstant(Value* value, Tensor data) {
    impl_->checkValue(value);
    TCOMPRESS_CHECK(value->constant() != nullptr, fmt::format("'{}' is not a constant", value->name()));
    TCOMPRESS_CHECK(bitsPerElement(data.dtype()) > 0, fmt::format("no numbers for '{}'", value->name()));
    impl_->change().constants.emplace_back(value, std::move(data));
}

void Edit::replaceInput(Node* node, std::size_t index, Value* value) {
    EditState& state = impl_->begin();
    state.setInput(*node, index, value);
    state.touched.insert(node);
}

void Edit::replaceAllUses(Value* from, Value* to, std::vector<const Node*> except) {
    impl_->checkValue(from);
    impl_->checkValue(to);
    TCOMPRESS_CHECK(from != to, fmt::format("'{}' replaced by itself", from->name()));
    EditState& state = impl_->change();
    std::unordered_set<const Node*> spared(except.begin(), except.end());

    std::vector<Node*> users = state.gainedUsers[from];
    for (const Use& use : from->uses()) {
        if (use.kind == UseKind::input) users.push_back(use.node);
    }
    for (Node* user : users) {
        if (spared.contains(user)) continue;
        for (std::size_t i = 0; i < state.inputsOf(*user).size(); ++i) {
            if (state.inputsOf(*user)[i] == from) state.setInput(*user, i, to);
        }
    }
    std::replace(state.outputs.begin(), state.outputs.end(), from, to);
    state.replacements.push_back({from, std::move(spared)});
}

void Edit::setAttribute(Node* node, Attribute attribute) {
    onnx::NodeProto& proto = impl_->begin().mutableProtoOf(*node);
    for (onnx::AttributeProto& old : *proto.mutable_attribute()) {
        if (old.name() == attribute.name) {
            old = toProto(attribute);
            return;
        }
    }
    *proto.add_attribute() = toProto(attribute);
}

void Edit::removeAttribute(Node* node, std::string_view name) {
    auto& attributes = *impl_->begin().mutableProtoOf(*node).mutable_attribute();
    attributes.erase(
        std::remove_if(attributes.begin(), attributes.end(),
                       [&](const onnx::AttributeProto& attribute) { return attribute.name() == name; }),
        attributes.end());
}

void Edit::setOpType(Node* node, std::string_view opType, std::string_view domain) {
    onnx::NodeProto& proto = impl_->begin().mutableProtoOf(*node);
    proto.set_op_type(std::string(opType));
    if (domain.empty()) {
        proto.clear_domain();
    } else {
        proto.set_domain(std::string(domain));
    }
    if (impl_->state->isNew.contains(node)) Internals::domain(*node) = normalizedDomain(proto.domain());
}

void Edit::removeNode(Node* node) {
    EditState& state = impl_->change();
    TCOMPRESS_CHECK(state.knownNodes.contains(node),
                    "the node is not in this model (removed by an earlier edit?)");
    state.removed.insert(node);
}

void Edit::setDimension(Value* graphInputOrOutput, std::size_t axis, std::int64_t size) {
    impl_->checkValue(graphInputOrOutput);
    TCOMPRESS_CHECK(size >= -1, fmt::format("dimension {}", size));
    impl_->change().dimensions.push_back({graphInputOrOutput, axis, size});
}

void Edit::addGraphOutput(Value* value) {
    impl_->checkValue(value);
    TCOMPRESS_CHECK(value->producer() != nullptr, fmt::format("'{}' is not computed", value->name()));
    impl_->change().outputs.push_back(value);
}

void Edit::removeGraphOutput(Value* output) {
    impl_->checkValue(output);
    std::vector<Value*>& outputs = impl_->change().outputs;
    TCOMPRESS_CHECK(std::count(outputs.begin(), outputs.end(), output) > 0,
                    fmt::format("'{}' is not a graph output", output->name()));
    std::replace(outputs.begin(), outputs.end(), output, static_cast<Value*>(nullptr));
}

void Edit::removeGraphInput(Value* input) {
    impl_->checkValue(input);
    TCOMPRESS_CHECK(input->isGraphInput(), fmt::format("'{}' is not a graph input", input->name()));
    impl_->change().removedInputs.insert(input);
}

void Edit::requireOpset(std::string_view domain, std::int64_t version) {
    std::int64_t& wanted = impl_->change().opsets[normalizedDomain(std::string(domain))];
    wanted = std::max(wanted, version);
}

bool Edit::empty() const { return !impl_->state || impl_->state->empty; }

void Edit::commit() {
    impl_->finishSpill();
    std::optional<EditState> state = std::exchange(impl_->state, std::nullopt);
    if (state && !state->empty) commitEdit(std::move(*state));
}

}  // namespace tcompress::ir
