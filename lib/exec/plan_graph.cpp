#include "lib/exec/plan_graph.h"

#include <fmt/core.h>

#include <algorithm>
#include <functional>

#include "lib/exec/attributes.h"
#include "lib/exec/contrib_functions.h"
#include "lib/exec/functions.h"
#include "lib/exec/operator.h"
#include "lib/ir/subgraphs.h"
#include "lib/support/error.h"

namespace tcompress::exec {

std::string PlanNode::label() const {
    if (!proto->name().empty()) return proto->name();
    if (proto->output_size() > 0 && !proto->output(0).empty()) return proto->output(0);
    return proto->op_type();
}

ValueId PlanGraph::addConstant(std::string name, Tensor constant) {
    PlanValue value;
    value.name = std::move(name);
    value.dtype = constant.dtype();
    value.constant = std::move(constant);
    return addValue(std::move(value));
}

Opsets opsetsOf(const ir::Model& model) {
    Opsets opsets;
    for (const onnx::OperatorSetIdProto& opset : model.envelope().opset_import()) {
        const std::string domain = opset.domain() == "ai.onnx" ? "" : opset.domain();
        opsets[domain] = opset.version();
    }
    return opsets;
}

namespace {

std::int64_t versionOf(const Opsets& opsets, const std::string& domain) {
    const auto found = opsets.find(domain);
    return found == opsets.end() ? 1 : found->second;
}

std::string normalizedDomain(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

/// Builds a graph name by name.
class Builder {
  public:
    explicit Builder(Opsets opsets) { graph_.opsets = std::move(opsets); }

    ValueId define(const std::string& name, PlanValue value) {
        value.name = name;
        const ValueId id = graph_.addValue(std::move(value));
        ids_[name] = id;
        return id;
    }
    ValueId lookUp(const std::string& name, const std::string& user) const {
        if (name.empty()) return kNoValue;
        const auto found = ids_.find(name);
        if (found == ids_.end()) throw ModelError(fmt::format("node '{}' reads '{}', which nothing computes", user, name));
        return found->second;
    }
    using Describe = std::function<PlanValue(const std::string&)>;
    /// Adds the node, or the body of the function that it calls; outputs become new values with the given descriptions.
    void add(std::shared_ptr<const onnx::NodeProto> proto, std::string domain, const Opsets& opsets, const Describe& describe) {
        const std::int64_t version = versionOf(opsets, domain);
        if (envelope_) {
            if (const onnx::FunctionProto* function = localFunction(*envelope_, *proto, domain)) {
                expand(*function, *proto, domain, describe);
                return;
            }
        }
        if (!hasKernel(*proto, domain, version)) {
            if (const auto function = standardFunction(*proto, domain, version, inputTypes(*proto))) {
                expand(*function, *proto, domain, describe);
                return;
            }
            const auto function = domain == kContribDomain ? contribFunction(*proto) : std::nullopt;
            if (function) {
                expand(*function, *proto, domain, describe);
                return;
            }
        }
        PlanNode node;
        node.domain = std::move(domain);
        node.version = version;
        node.proto = std::move(proto);
        const std::string label = node.label();
        for (const std::string& name : node.proto->input()) node.inputs.push_back(lookUp(name, label));
        node.capturedFrom = node.inputs.size();
        for (const std::string& name : ir::capturedNames(*node.proto)) node.inputs.push_back(lookUp(name, label));
        for (const std::string& name : node.proto->output()) {
            node.outputs.push_back(name.empty() ? kNoValue : define(name, describe(name)));
        }
        graph_.nodes.push_back(std::move(node));
    }
    PlanGraph& graph() { return graph_; }
    void addConstantOf(const onnx::TensorProto& tensor) {
        PlanValue value;
        value.constant = tensorFromProto(tensor);
        value.dtype = value.constant.dtype();
        define(tensor.name(), std::move(value));
    }
    void useFunctionsOf(const onnx::ModelProto& envelope) { envelope_ = &envelope; }
    void addOutput(const std::string& name) {
        const ValueId id = lookUp(name, "graph output");
        graph_.value(id).kept = true;
        graph_.outputs.push_back(id);
    }

  private:
    static bool hasKernel(const onnx::NodeProto& node, const std::string& domain, std::int64_t version) {
        const OperatorRow* row = findOperator(domain, node.op_type(), version);
        if (!row || !row->accepts) return row != nullptr;
        NodeInfo info{Attributes(node), domain, version, {}, {}, {}, {}, {}};
        for (const std::string& name : node.input()) info.inputs.push_back(!name.empty());
        for (const std::string& name : node.output()) info.outputs.push_back(!name.empty());
        return row->accepts(info);
    }

    std::vector<const onnx::TypeProto*> inputTypes(const onnx::NodeProto& node) const {
        std::vector<const onnx::TypeProto*> types;
        for (const std::string& name : node.input()) {
            const auto found = ids_.find(name);
            const ir::Value* source = found == ids_.end() ? nullptr : graph_.value(found->second).source;
            types.push_back(source ? source->type() : nullptr);
        }
        return types;
    }

    void expand(const onnx::FunctionProto& function, const onnx::NodeProto& call, const std::string& domain, const Describe& describe) {
        constexpr int kDeepestCall = 32;
        if (++depth_ > kDeepestCall) throw ModelError(fmt::format("function '{}' calls itself", call.op_type()));
        Opsets opsets = graph_.opsets;
        for (const onnx::OperatorSetIdProto& opset : function.opset_import()) opsets[normalizedDomain(opset.domain())] = opset.version();
        const std::string prefix = fmt::format("{}:{}#{}/", domain, call.op_type(), ++calls_);
        for (onnx::NodeProto& node : instantiate(function, call, prefix)) {
            auto shared = std::make_shared<const onnx::NodeProto>(std::move(node));
            const std::string inner = normalizedDomain(shared->domain());
            add(std::move(shared), inner, opsets, [&](const std::string& name) {
                const bool isOutput = std::find(call.output().begin(), call.output().end(), name) != call.output().end();
                return isOutput ? describe(name) : PlanValue{};
            });
        }
        --depth_;
    }

    PlanGraph graph_;
    const onnx::ModelProto* envelope_ = nullptr;
    int calls_ = 0;
    int depth_ = 0;
    std::unordered_map<std::string, ValueId> ids_;
};

/// The same bytes. An aligned copy of them (tensor.h) is the plan's own, so that it goes when the plan has packed
/// it, and not with the model.
Tensor viewOf(const Tensor& tensor) { return Tensor::share(tensor.dtype(), tensor.shape(), tensor.storage()); }

PlanValue described(const ir::Value& value) {
    PlanValue result;
    result.source = &value;
    result.dtype = value.dtype();
    if (value.constant()) result.constant = viewOf(*value.constant());
    return result;
}

}  // namespace

PlanGraph planGraphOf(const ir::Model& model) {
    Builder builder(opsetsOf(model));
    builder.useFunctionsOf(model.envelope());
    const ir::Graph& graph = model.graph();
    for (const ir::Value* input : graph.inputs()) builder.graph().inputs.push_back(builder.define(input->name(), described(*input)));
    for (const ir::Value* initializer : graph.initializers()) {
        PlanValue value = described(*initializer);
        // One that is the default of a graph input is as constant here: run() takes no feed for it.
        if (initializer->initialValue()) value.constant = viewOf(*initializer->initialValue());
        // An initializer without a Tensor (strings, …) stays computed by nobody: whoever reads it is refused by type.
        builder.define(initializer->name(), std::move(value));
    }
    for (const auto& node : graph.nodes()) {
        if (node->is("Constant") && node->output() && node->output()->constant()) {
            builder.define(node->output()->name(), described(*node->output()));
            continue;
        }
        // The model outlives the plan, so its NodeProto is shared without owning it.
        std::shared_ptr<const onnx::NodeProto> proto(std::shared_ptr<void>(), &node->proto());
        // The overlay's names are the true ones after edits; the proto's lists may be stale.
        auto current = std::make_shared<onnx::NodeProto>();
        bool stale = static_cast<std::size_t>(proto->input_size()) != node->inputs().size() ||
                     static_cast<std::size_t>(proto->output_size()) != node->outputs().size();
        for (std::size_t i = 0; !stale && i < node->inputs().size(); ++i) {
            stale = (node->inputs()[i] ? node->inputs()[i]->name() : std::string()) != proto->input(static_cast<int>(i));
        }
        for (std::size_t i = 0; !stale && i < node->outputs().size(); ++i) {
            stale = (node->outputs()[i] ? node->outputs()[i]->name() : std::string()) != proto->output(static_cast<int>(i));
        }
        if (stale) {
            *current = *proto;
            current->clear_input();
            current->clear_output();
            for (const ir::Value* value : node->inputs()) current->add_input(value ? value->name() : "");
            for (const ir::Value* value : node->outputs()) current->add_output(value ? value->name() : "");
            proto = std::move(current);
        }
        builder.add(std::move(proto), node->domain(), builder.graph().opsets,
                    [&](const std::string& name) { return described(*graph.find(name)); });
    }
    for (const ir::Value* output : graph.outputs()) builder.addOutput(output->name());
    return std::move(builder.graph());
}

PlanGraph planGraphOf(const onnx::GraphProto& body, const std::vector<std::string>& captured, const Opsets& opsets) {
    Builder builder(opsets);
    const auto defineInput = [&](const std::string& name, DType type) {
        PlanValue value;
        value.dtype = type;
        builder.graph().inputs.push_back(builder.define(name, std::move(value)));
    };
    for (const onnx::ValueInfoProto& input : body.input()) {
        defineInput(input.name(), static_cast<DType>(input.type().tensor_type().elem_type()));
    }
    for (const std::string& name : captured) defineInput(name, DType::undefined);
    for (const onnx::TensorProto& initializer : body.initializer()) {
        builder.addConstantOf(initializer);
    }
    for (const onnx::NodeProto& node : body.node()) {
        builder.add(std::shared_ptr<const onnx::NodeProto>(std::shared_ptr<void>(), &node), normalizedDomain(node.domain()),
                    builder.graph().opsets, [](const std::string&) { return PlanValue{}; });
    }
    for (const onnx::ValueInfoProto& output : body.output()) builder.addOutput(output.name());
    return std::move(builder.graph());
}

}  // namespace tcompress::exec
