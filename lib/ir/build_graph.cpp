#include "lib/ir/build_graph.h"

#include <fmt/core.h>
#include <onnx/common/constants.h>
#include <onnx/defs/schema.h>

#include <unordered_map>

#include "lib/ir/check_nodes.h"
#include "lib/ir/internals.h"
#include "lib/ir/subgraphs.h"
#include "lib/ir/topology.h"
#include "lib/support/error.h"
#include "lib/support/log.h"

namespace tcompress::ir {
namespace {

class GraphBuilder {
  public:
    explicit GraphBuilder(ModelSource source)
        : source_(std::move(source)), proto_(*source_.proto.mutable_graph()), files_(source_.folder) {}

    Model build() {
        checkVersions();
        checkNodes(source_.proto);
        addInputs();
        addInitializers();
        addNodes();
        connectNodes();
        addOutputs();
        addTypes();
        sortNodes();
        indexGraph(graph_);
        keepEnvelope();
        return std::move(model_);
    }

  private:
    ModelSource source_;
    onnx::GraphProto& proto_;
    ExternalFiles files_;
    Model model_;
    Graph& graph_ = model_.graph();

    void checkVersions() const {
        constexpr std::int64_t oldestIr = 3;
        std::int64_t ir = source_.proto.ir_version();
        if (ir < oldestIr || ir > onnx::Version::IR_VERSION) {
            throw ModelError(fmt::format("its ir_version is {}, and {} to {} are supported", ir, oldestIr,
                                         static_cast<int>(onnx::Version::IR_VERSION)));
        }
        int newest = onnx::OpSchemaRegistry::DomainToVersionRange::Instance().Map().at("").second;
        constexpr std::int64_t oldest = 11;
        for (const onnx::OperatorSetIdProto& opset : source_.proto.opset_import()) {
            if (!normalizedDomain(opset.domain()).empty()) continue;
            if (opset.version() > newest || opset.version() < 1) {
                throw ModelError(fmt::format("its opset is {}, and {} to {} are supported", opset.version(),
                                             oldest, newest));
            }
            if (opset.version() < oldest) {
                log::warning("opset {} is older than {}; operators may not be understood", opset.version(),
                             oldest);
            }
        }
        if (source_.proto.opset_import().empty()) throw ModelError("it imports no operator set");
    }

    Value* define(const std::string& name, std::string_view what) {
        auto [place, isNew] = Internals::values(graph_).try_emplace(name);
        if (!isNew) throw ModelError(fmt::format("{} '{}' has a name that is already taken", what, name));
        place->second = Internals::makeValue(name);
        return place->second.get();
    }

    void addInputs() {
        for (const onnx::ValueInfoProto& info : proto_.input()) {
            if (info.name().empty()) throw ModelError("a graph input has no name");
            Value* value = define(info.name(), "graph input");
            Internals::graphInput(*value) = true;
            if (info.has_type()) Internals::type(*value) = info.type();
            Internals::inputInfo(graph_).push_back(info);
        }
    }

    void addInitializers() {
        for (int i = 0; i < proto_.initializer_size(); ++i) {
            auto payload = source_.payloads.initializers.find(i);
            addInitializer(
                storeTensor(std::move(*proto_.mutable_initializer(i)),
                            payload != source_.payloads.initializers.end() ? &payload->second : nullptr));
        }
        for (onnx::SparseTensorProto& sparse : *proto_.mutable_sparse_initializer()) {
            auto stored = std::make_shared<StoredTensor>();
            stored->sparse = std::move(sparse);
            addInitializer(stored);
        }
        for (const onnx::ValueInfoProto& info : Internals::inputInfo(graph_)) {
            Value* value = graph_.find(info.name());
            if (!Internals::stored(*value)) Internals::inputs(graph_).push_back(value);
        }
    }

    void addInitializer(const std::shared_ptr<const StoredTensor>& stored) {
        if (stored->name().empty()) throw ModelError("an initializer has no name");
        Value* value = graph_.find(stored->name());
        if (value == nullptr) {
            value = define(stored->name(), "initializer");
        } else if (Internals::stored(*value)) {
            throw ModelError(
                fmt::format("initializer '{}' has a name that is already taken", stored->name()));
        }
        Internals::initializers(graph_).push_back(value);
        setConstant(*value, stored, ConstantKind::initializer);
        // Before IR version 4 every initializer had to be listed as an input too, without being one.
        bool isDefault = value->isGraphInput() && source_.proto.ir_version() >= 4;
        if (isDefault) Internals::constantKind(*value) = ConstantKind::none;
    }

    std::shared_ptr<const StoredTensor> storeTensor(onnx::TensorProto proto, const Payload* payload) {
        auto stored = std::make_shared<StoredTensor>();
        stored->proto = std::move(proto);
        if (payload != nullptr) {
            stored->payloadField = payload->field;
            stored->payload = {source_.owner, payload->bytes.data()};
            stored->payloadBytes = payload->bytes.size();
        }
        return stored;
    }

    void setConstant(Value& value, const std::shared_ptr<const StoredTensor>& stored, ConstantKind kind) {
        Internals::stored(value) = stored;
        std::optional<Tensor> data = decode(stored, files_);
        if (!data) return;
        if (stored->isExternal()) Internals::stored(value) = embed(*stored, *data);
        Internals::constant(value) = std::move(*data);
        Internals::constantKind(value) = kind;
    }

    /// Where data are written is decided anew when the model is saved.
    static std::shared_ptr<const StoredTensor> embed(const StoredTensor& external, const Tensor& data) {
        std::shared_ptr<StoredTensor> stored = store(data, external.name());
        onnx::TensorProto proto = external.proto;
        proto.clear_external_data();
        proto.clear_data_location();
        if (stored->payloadField == 0) proto.set_raw_data(stored->proto.raw_data());
        stored->proto = std::move(proto);
        return stored;
    }

    void addNodes() {
        for (int i = 0; i < proto_.node_size(); ++i) {
            std::unique_ptr<Node> node = Internals::makeNode(std::move(*proto_.mutable_node(i)));
            if (node->opType().empty()) throw ModelError(fmt::format("node {} has no operator", i));
            for (const std::string& name : node->proto().output()) {
                Value* value = nullptr;
                if (!name.empty()) {
                    value = define(name, fmt::format("output of {} node", node->opType()));
                    Internals::producer(*value) = node.get();
                }
                Internals::outputs(*node).push_back(value);
            }
            takeAttributePayloads(*node, i);
            if (node->is("Constant")) readConstantNode(*node);
            Internals::nodes(graph_).push_back(std::move(node));
        }
    }

    /// Attribute tensors of other operators than Constant go back into the node.
    void takeAttributePayloads(Node& node, int index) {
        auto payload = source_.payloads.attributes.lower_bound({index, 0});
        for (; payload != source_.payloads.attributes.end() && payload->first.node == index; ++payload) {
            onnx::AttributeProto& attribute =
                *Internals::proto(node).mutable_attribute(payload->first.attribute);
            bool isConstant = node.is("Constant") && attribute.name() == "value" && node.output() != nullptr;
            if (isConstant) {
                setConstant(*node.output(), storeTensor(attribute.t(), &payload->second),
                            ConstantKind::constantNode);
            } else {
                restorePayload(*attribute.mutable_t(), payload->second);
            }
        }
    }

    void readConstantNode(Node& node) {
        Value* value = node.output();
        if (value == nullptr || Internals::stored(*value)) return;
        for (const onnx::AttributeProto& attribute : node.proto().attribute()) {
            if (attribute.name() == "value" && attribute.has_t()) {
                setConstant(*value, storeTensor(attribute.t(), nullptr), ConstantKind::constantNode);
            } else if (attribute.name() == "sparse_value" && attribute.has_sparse_tensor()) {
                auto stored = std::make_shared<StoredTensor>();
                stored->sparse = attribute.sparse_tensor();
                setConstant(*value, stored, ConstantKind::constantNode);
            } else if (std::optional<Tensor> data = scalarOrList(attribute)) {
                Internals::constant(*value) = std::move(*data);
                Internals::constantKind(*value) = ConstantKind::constantNode;
            }
        }
    }

    static std::optional<Tensor> scalarOrList(const onnx::AttributeProto& attribute) {
        if (attribute.name() == "value_float") return Tensor::scalar<float>(attribute.f());
        if (attribute.name() == "value_int") return Tensor::scalar<std::int64_t>(attribute.i());
        if (attribute.name() == "value_floats") {
            std::vector<float> values(attribute.floats().begin(), attribute.floats().end());
            return Tensor::of<float>({attribute.floats_size()}, std::span<const float>(values));
        }
        if (attribute.name() == "value_ints") {
            std::vector<std::int64_t> values(attribute.ints().begin(), attribute.ints().end());
            return Tensor::of<std::int64_t>({attribute.ints_size()}, std::span<const std::int64_t>(values));
        }
        return std::nullopt;
    }

    Value* use(const std::string& name, const Node& user) {
        Value* value = graph_.find(name);
        if (value == nullptr) {
            throw ModelError(fmt::format("node '{}' ({}) reads '{}', which nothing produces", user.label(),
                                         user.opType(), name));
        }
        return value;
    }

    void connectNodes() {
        for (const std::unique_ptr<Node>& node : graph_.nodes()) {
            for (const std::string& name : node->proto().input()) {
                Internals::inputs(*node).push_back(name.empty() ? nullptr : use(name, *node));
            }
            if (!node->hasSubgraph()) continue;
            for (const std::string& name : capturedNames(node->proto())) {
                Internals::captured(*node).push_back(use(name, *node));
            }
        }
    }

    void addOutputs() {
        for (const onnx::ValueInfoProto& info : proto_.output()) {
            Value* value = graph_.find(info.name());
            if (value == nullptr) {
                throw ModelError(fmt::format("graph output '{}' is produced by nothing", info.name()));
            }
            Internals::outputs(graph_).push_back(value);
            if (info.has_type() && !value->isGraphInput()) Internals::type(*value) = info.type();
            Internals::outputInfo(graph_).push_back(info);
        }
    }

    void addTypes() {
        for (const onnx::ValueInfoProto& info : proto_.value_info()) {
            Value* value = graph_.find(info.name());
            if (value != nullptr && !value->type() && info.has_type()) Internals::type(*value) = info.type();
            Internals::valueInfo(graph_).push_back(info);
        }
    }

    void sortNodes() {
        std::vector<Node*> fileOrder;
        for (const std::unique_ptr<Node>& node : graph_.nodes()) fileOrder.push_back(node.get());
        Ordering ordering = stableTopologicalOrder(fileOrder, forEachDependency);
        if (ordering.onCycle != nullptr) {
            throw ModelError(fmt::format("node '{}' ({}) depends on its own output",
                                         ordering.onCycle->label(), ordering.onCycle->opType()));
        }
        if (ordering.nodes == fileOrder) return;
        log::debug("the nodes of {} are not in topological order and were sorted", source_.path.string());
        std::unordered_map<const Node*, std::unique_ptr<Node>> owners;
        for (std::unique_ptr<Node>& node : Internals::nodes(graph_)) {
            const Node* key = node.get();
            owners[key] = std::move(node);
        }
        Internals::nodes(graph_).clear();
        for (Node* node : ordering.nodes) Internals::nodes(graph_).push_back(std::move(owners[node]));
    }

    void keepEnvelope() {
        proto_.clear_node();
        proto_.clear_initializer();
        proto_.clear_sparse_initializer();
        proto_.clear_input();
        proto_.clear_output();
        proto_.clear_value_info();
        Internals::envelope(model_) = std::move(source_.proto);
        Internals::path(model_) = std::move(source_.path);
    }
};

}  // namespace

Model buildModel(ModelSource source) {
    if (!source.proto.has_graph()) throw ModelError("it holds no graph");
    return GraphBuilder(std::move(source)).build();
}

}  // namespace tcompress::ir
