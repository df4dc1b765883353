#include "lib/ir/check_nodes.h"

#include <fmt/core.h>
#include <onnx/defs/schema.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <string>

#include "lib/ir/internals.h"
#include "lib/support/error.h"

namespace tcompress::ir {
namespace {

/// More than any tensor has, and few enough for the library's int.
constexpr std::int64_t kMostAxes = 1 << 16;

std::string described(const onnx::NodeProto& node) {
    const std::string& name = !node.name().empty()         ? node.name()
                              : node.output_size() > 0 ? node.output(0)
                                                       : node.op_type();
    return fmt::format("node '{}' ({})", name, node.op_type());
}

/// Whether each term of an Einsum's left side is letters with at most one "..." among them. The library goes round
/// for ever at anything else.
bool isEquation(std::string text) {
    std::erase(text, ' ');
    text = text.substr(0, text.find("->"));
    for (std::size_t begin = 0; begin <= text.size();) {
        const std::size_t end = std::min(text.find(',', begin), text.size());
        std::string term = text.substr(begin, end - begin);
        if (const std::size_t dots = term.find("..."); dots != std::string::npos) term.erase(dots, 3);
        const auto isLetter = [](unsigned char c) { return c < 0x80 && std::isalpha(c); };
        if (!std::all_of(term.begin(), term.end(), isLetter)) return false;
        begin = end + 1;
    }
    return true;
}

class NodeChecker {
  public:
    using Imports = google::protobuf::RepeatedPtrField<onnx::OperatorSetIdProto>;

    NodeChecker(const onnx::ModelProto& model, const Imports& imports) {
        for (const onnx::OperatorSetIdProto& opset : imports)
            versions_[normalizedDomain(opset.domain())] = static_cast<int>(opset.version());
        for (const onnx::FunctionProto& function : model.functions())
            ownOperators_.emplace(normalizedDomain(function.domain()), function.name());
    }

    template <class Nodes>
    void check(const Nodes& nodes) const {
        for (const onnx::NodeProto& node : nodes) {
            checkOperands(node);
            for (const onnx::AttributeProto& attribute : node.attribute()) checkAttribute(node, attribute);
        }
    }

  private:
    std::map<std::string, int> versions_;
    std::set<std::pair<std::string, std::string>> ownOperators_;  ///< the model defines them itself

    const onnx::OpSchema* schemaOf(const onnx::NodeProto& node) const {
        const std::string domain = normalizedDomain(node.domain());
        const auto version = versions_.find(domain);
        if (version == versions_.end() || ownOperators_.contains({domain, node.op_type()})) return nullptr;
        return onnx::OpSchemaRegistry::Schema(node.op_type(), version->second, domain);
    }

    void checkOperands(const onnx::NodeProto& node) const {
        const onnx::OpSchema* schema = schemaOf(node);
        if (schema == nullptr) return;
        const auto check = [&](const auto& formals, const auto& given, const char* what) {
            for (int i = 0; i < static_cast<int>(formals.size()); ++i) {
                const auto& formal = formals[static_cast<std::size_t>(i)];
                if (formal.GetOption() != onnx::OpSchema::Single || (i < given.size() && !given[i].empty())) continue;
                throw ModelError(fmt::format("{} has no {} '{}', which the operator needs", described(node), what,
                                             formal.GetName()));
            }
        };
        check(schema->inputs(), node.input(), "input");
        check(schema->outputs(), node.output(), "output");
    }

    void checkAttribute(const onnx::NodeProto& node, const onnx::AttributeProto& attribute) const {
        const std::string& name = attribute.name();
        const std::int64_t number = attribute.i();
        if ((name == "axis" && (number < -kMostAxes || number > kMostAxes)) ||
            (name == "batch_dims" && (number < 0 || number > kMostAxes))) {
            throw ModelError(fmt::format("{}: no tensor has the {} {}", described(node), name, number));
        }
        if (node.op_type() == "Einsum" && name == "equation" && !isEquation(attribute.s()))
            throw ModelError(fmt::format("{}: '{}' is no equation", described(node), attribute.s()));
        if (attribute.has_g()) check(attribute.g().node());
        for (const onnx::GraphProto& graph : attribute.graphs()) check(graph.node());
    }
};

/// What the model's own functions stand for: shape inference and the executor both go through every call.
class FunctionCalls {
  public:
    explicit FunctionCalls(const onnx::ModelProto& model) {
        for (const onnx::FunctionProto& function : model.functions())
            functions_[nameOf(function.domain(), function.name())] = &function;
    }

    template <class Nodes>
    void check(const Nodes& nodes) {
        bodyOf(nodes, 0);
    }

  private:
    using Name = std::pair<std::string, std::string>;
    struct Body {
        std::int64_t nodes = 0;  ///< those of the functions it calls included
        int depth = 0;           ///< of calls within calls
    };
    static constexpr std::int64_t kMostNodes = 1 << 22;
    static constexpr int kDeepest = 64;

    std::map<Name, const onnx::FunctionProto*> functions_;
    std::map<Name, Body> known_;

    static Name nameOf(const std::string& domain, const std::string& type) { return {normalizedDomain(domain), type}; }

    void add(Body& sum, const Body& inner, int deeper) const {
        sum.nodes += inner.nodes;
        sum.depth = std::max(sum.depth, inner.depth + deeper);
        if (sum.nodes > kMostNodes)
            throw ModelError(fmt::format("its functions call each other so often that they stand for over {} nodes", kMostNodes));
        if (sum.depth > kDeepest) throw ModelError(fmt::format("its functions call each other over {} deep", kDeepest));
    }

    template <class Nodes>
    Body bodyOf(const Nodes& nodes, int depth) {
        Body sum;
        for (const onnx::NodeProto& node : nodes) {
            add(sum, {1, 0}, 0);
            for (const onnx::AttributeProto& attribute : node.attribute()) {
                if (attribute.has_g()) add(sum, bodyOf(attribute.g().node(), depth), 0);
                for (const onnx::GraphProto& graph : attribute.graphs()) add(sum, bodyOf(graph.node(), depth), 0);
            }
            const Name name = nameOf(node.domain(), node.op_type());
            const auto function = functions_.find(name);
            if (function == functions_.end()) continue;
            if (depth >= kDeepest)
                throw ModelError(fmt::format("function '{}' calls itself, or others over {} deep", node.op_type(), kDeepest));
            auto known = known_.find(name);
            if (known == known_.end())
                known = known_.emplace(name, bodyOf(function->second->node(), depth + 1)).first;
            add(sum, known->second, 1);
        }
        return sum;
    }
};

}  // namespace

void checkNodes(const onnx::ModelProto& model) {
    FunctionCalls(model).check(model.graph().node());
    NodeChecker(model, model.opset_import()).check(model.graph().node());
    for (const onnx::FunctionProto& function : model.functions())
        NodeChecker(model, function.opset_import()).check(function.node());
}

}  // namespace tcompress::ir
