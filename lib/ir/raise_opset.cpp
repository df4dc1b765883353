// Raises the standard opset. ONNX's converter goes through ONNX's own C++ graph, which drops what it does not
// know (metadata, doc strings, annotations); so only the nodes whose operator really changed between the two
// opsets go through it, as a small model of their own, and every other node stays as it is. Weights never go
// through it.

#include <fmt/core.h>
#include <onnx/defs/schema.h>
#include <onnx/version_converter/convert.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "lib/ir/internals.h"
#include "lib/ir/load.h"
#include "lib/ir/names.h"
#include "lib/ir/runtime_operators.h"
#include "lib/ir/topology.h"
#include "lib/support/error.h"
#include "lib/support/log.h"

namespace tcompress::ir {
namespace {

int sinceVersion(const onnx::NodeProto& node, std::int64_t opset) {
    const onnx::OpSchema* schema =
        onnx::OpSchemaRegistry::Instance()->GetSchema(node.op_type(), static_cast<int>(opset), "");
    return schema != nullptr ? schema->since_version() : 0;
}

/// The oldest IR version that knows an opset (table in onnx/helper.py).
std::int64_t irVersionFor(std::int64_t opset) {
    struct Row {
        std::int64_t opset, ir;
    };
    constexpr Row table[] = {{25, 13}, {24, 12}, {23, 11}, {21, 10}, {19, 9}, {15, 8}, {12, 7}, {11, 6}};
    for (const Row& row : table) {
        if (opset >= row.opset) return row.ir;
    }
    return 3;
}

class OpsetRaiser {
  public:
    OpsetRaiser(Model& model, std::int64_t target)
        : model_(model), graph_(model.graph()), from_(model.opset()), target_(target), names_(graph_) {}

    void run() {
        findAffected();
        if (!affected_.empty()) replaceAffected(convert(smallModel()));
        setVersions();
        indexGraph(graph_);
        Internals::revision(model_) = Internals::nextRevision();
        log::info("opset raised from {} to {}; the converter went over {} of {} nodes", from_, target_,
                  affected_.size(), graph_.nodes().size());
    }

  private:
    Model& model_;
    Graph& graph_;
    std::int64_t from_;
    std::int64_t target_;
    FreshNames names_;
    std::vector<Node*> affected_;                      ///< in graph order
    std::unordered_map<std::string, Value*> helpers_;  ///< values that the converter made, by its names

    [[noreturn]] void fail(const std::string& reason) const {
        throw ModelError(fmt::format("cannot raise opset {} to {}: {}", from_, target_, reason));
    }

    bool isAffected(const onnx::NodeProto& node) const {
        bool isStandard = normalizedDomain(node.domain()).empty();
        if (isStandard && !isRuntimeOperator(node, from_)) {
            int before = sinceVersion(node, from_);
            int after = sinceVersion(node, target_);
            if (before == 0 || after == 0) {
                fail(fmt::format("node '{}' has the operator '{}', which ONNX does not know", node.name(),
                                 node.op_type()));
            }
            if (before != after) return true;
        }
        auto bodyIsAffected = [this](const onnx::GraphProto& body) {
            return std::any_of(body.node().begin(), body.node().end(),
                               [this](const onnx::NodeProto& inner) { return isAffected(inner); });
        };
        for (const onnx::AttributeProto& attribute : node.attribute()) {
            if (attribute.has_g() && bodyIsAffected(attribute.g())) return true;
            if (std::any_of(attribute.graphs().begin(), attribute.graphs().end(), bodyIsAffected))
                return true;
        }
        return false;
    }

    void findAffected() {
        for (const std::unique_ptr<Node>& node : graph_.nodes()) {
            // A Constant means the same in every opset; what changed is which types and attributes it may
            // have.
            if (!node->is("Constant") && isAffected(node->proto())) affected_.push_back(node.get());
        }
    }

    /// The affected nodes alone: what they read is an initializer when its data are small (some adapters look
    /// at them), otherwise an input.
    onnx::ModelProto smallModel() const {
        onnx::ModelProto proto;
        proto.set_ir_version(std::max(model_.envelope().ir_version(), irVersionFor(from_)));
        *proto.mutable_opset_import() = model_.envelope().opset_import();
        onnx::GraphProto& graph = *proto.mutable_graph();
        graph.set_name("affected");
        std::unordered_set<const Value*> declared;
        for (const Node* node : affected_) declared.insert(node->outputs().begin(), node->outputs().end());
        auto declare = [&](const Value* value) {
            if (value == nullptr || !declared.insert(value).second) return;
            const auto& stored = Internals::stored(*value);
            bool isSmall =
                value->constant() != nullptr && stored && !stored->sparse && stored->payloadField == 0;
            if (isSmall) {
                onnx::TensorProto& tensor = *graph.add_initializer();
                tensor = stored->proto;
                tensor.set_name(value->name());
            } else {
                *graph.add_input() = describe(*value);
            }
        };
        for (const Node* node : affected_) {
            for (const Value* value : node->inputs()) declare(value);
            for (const Value* value : node->captured()) declare(value);
            onnx::NodeProto& written = *graph.add_node();
            written = node->proto();
            written.clear_input();
            written.clear_output();
            for (const Value* value : node->inputs())
                written.add_input(value != nullptr ? value->name() : "");
            for (const Value* value : node->outputs()) {
                written.add_output(value != nullptr ? value->name() : "");
                if (value != nullptr) *graph.add_output() = describe(*value);
            }
        }
        return proto;
    }

    static onnx::ValueInfoProto describe(const Value& value) {
        onnx::ValueInfoProto info;
        info.set_name(value.name());
        if (value.type() != nullptr) {
            *info.mutable_type() = *value.type();
            return info;
        }
        auto& tensor = *info.mutable_type()->mutable_tensor_type();
        tensor.set_elem_type(static_cast<std::int32_t>(value.dtype()));
        if (std::optional<Shape> shape = value.shape()) {
            for (std::int64_t size : *shape) {
                auto* dimension = tensor.mutable_shape()->add_dim();
                if (size >= 0) dimension->set_dim_value(size);
            }
            tensor.mutable_shape();
        }
        return info;
    }

    onnx::ModelProto convert(const onnx::ModelProto& proto) const {
        try {
            return onnx::version_conversion::ConvertVersion(proto, static_cast<int>(target_));
        } catch (const std::exception& problem) {
            std::string reason = problem.what();
            std::replace(reason.begin(), reason.end(), '\n', ' ');
            fail(reason);
        }
    }

    /// Result nodes come in order: helpers, then the node whose output the graph knows.
    void replaceAffected(const onnx::ModelProto& result) {
        std::unordered_map<std::string, Node*> producers;  // of the outputs that the graph knows
        for (Node* node : affected_) {
            for (const Value* output : node->outputs()) {
                if (output != nullptr) producers[output->name()] = node;
            }
        }
        std::unordered_map<const Node*, std::vector<const onnx::NodeProto*>> groups;
        std::vector<const onnx::NodeProto*> group;
        for (const onnx::NodeProto& node : result.graph().node()) {
            group.push_back(&node);
            auto known = std::find_if(node.output().begin(), node.output().end(),
                                      [&](const std::string& name) { return producers.contains(name); });
            if (known == node.output().end()) continue;
            groups[producers.at(*known)] = std::exchange(group, {});
        }
        for (const Node* node : affected_) {
            if (!groups.contains(node)) fail(fmt::format("the converter lost node '{}'", node->label()));
        }
        addNewInitializers(result.graph());

        std::vector<std::unique_ptr<Node>> old = std::move(Internals::nodes(graph_));
        Internals::nodes(graph_).clear();
        for (std::unique_ptr<Node>& node : old) {
            auto found = groups.find(node.get());
            if (found == groups.end()) {
                Internals::nodes(graph_).push_back(std::move(node));
                continue;
            }
            for (const onnx::NodeProto* proto : found->second) addConverted(*proto, *node);
        }
    }

    Value* resolve(const std::string& name) const {
        if (name.empty()) return nullptr;
        auto found = helpers_.find(name);
        Value* value = found != helpers_.end() ? found->second : graph_.find(name);
        if (value == nullptr) fail(fmt::format("the converter reads '{}', which nothing produces", name));
        return value;
    }

    Value* addValue(const std::string& name, std::string_view wish) {
        std::unique_ptr<Value> value = Internals::makeValue(names_.forValue(wish));
        Value* result = value.get();
        Internals::values(graph_).emplace(value->name(), std::move(value));
        helpers_[name] = result;
        return result;
    }

    void addConstant(const onnx::TensorProto& tensor, const std::string& name, std::string_view wish) {
        Value* value = addValue(name, wish);
        auto stored = std::make_shared<StoredTensor>();
        stored->proto = tensor;
        stored->proto.set_name(value->name());
        ExternalFiles noFiles("");
        std::optional<Tensor> data = decode(stored, noFiles);
        if (!data) fail(fmt::format("the converter made the constant '{}' of an unknown type", name));
        Internals::stored(*value) = std::move(stored);
        Internals::constant(*value) = std::move(*data);
        Internals::constantKind(*value) = ConstantKind::initializer;
        Internals::initializers(graph_).push_back(value);
    }

    void addNewInitializers(const onnx::GraphProto& result) {
        for (const onnx::TensorProto& tensor : result.initializer()) {
            if (graph_.find(tensor.name()) == nullptr) addConstant(tensor, tensor.name(), tensor.name());
        }
    }

    /// `original` lends what the converter dropped to the node that still does its work.
    void addConverted(const onnx::NodeProto& proto, const Node& original) {
        if (proto.op_type() == "Constant" && proto.attribute_size() == 1 && proto.attribute(0).has_t()) {
            addConstant(proto.attribute(0).t(), proto.output(0), original.label() + "_constant");
            return;
        }
        onnx::NodeProto written = proto;
        bool isSame = proto.op_type() == original.opType();
        if (isSame) {
            written.set_name(original.name());
            written.set_doc_string(original.proto().doc_string());
            if (!original.proto().has_doc_string()) written.clear_doc_string();
            *written.mutable_metadata_props() = original.proto().metadata_props();
        } else {
            written.set_name(names_.forNode(original.label() + "_" + proto.op_type()));
        }
        std::unique_ptr<Node> node = Internals::makeNode(std::move(written));
        for (const std::string& name : proto.input()) Internals::inputs(*node).push_back(resolve(name));
        if (isSame) Internals::captured(*node) = original.captured();
        for (const std::string& name : proto.output()) {
            Value* output = nullptr;
            if (!name.empty()) output = graph_.find(name);
            if (output == nullptr && !name.empty())
                output = addValue(name, original.label() + "_" + proto.op_type());
            if (output != nullptr) Internals::producer(*output) = node.get();
            Internals::outputs(*node).push_back(output);
        }
        Internals::nodes(graph_).push_back(std::move(node));
    }

    void setVersions() {
        onnx::ModelProto& envelope = Internals::envelope(model_);
        for (onnx::OperatorSetIdProto& opset : *envelope.mutable_opset_import()) {
            if (normalizedDomain(opset.domain()).empty()) opset.set_version(target_);
        }
        std::int64_t before = envelope.ir_version();
        envelope.set_ir_version(std::max(before, irVersionFor(target_)));
        // From version 4 on an initializer among the inputs would be a default that a caller may replace.
        if (before >= 4 || envelope.ir_version() < 4) return;
        for (Value* value : graph_.initializers()) Internals::graphInput(*value) = false;
        std::erase_if(Internals::inputInfo(graph_), [this](const onnx::ValueInfoProto& info) {
            return !graph_.find(info.name())->isGraphInput();
        });
    }
};

}  // namespace

Model raiseOpset(Model model, std::int64_t version) {
    if (model.opset() >= version) return model;
    int newest = onnx::OpSchemaRegistry::DomainToVersionRange::Instance().Map().at("").second;
    if (version > newest) {
        throw ModelError(
            fmt::format("cannot raise opset {} to {}: the newest is {}", model.opset(), version, newest));
    }
    if (model.opset() == 0)
        throw ModelError("cannot raise the opset: the model imports no standard operators");
    OpsetRaiser(model, version).run();
    inferTypes(model);
    return model;
}

}  // namespace tcompress::ir
