#include "lib/ir/subgraphs.h"

namespace tcompress::ir {
namespace {

// The depth of nesting is bounded by protobuf's own limit when the file is parsed.
template <class Visit>
void forEachSubgraph(const onnx::NodeProto& node, Visit&& visit) {
    for (const onnx::AttributeProto& attribute : node.attribute()) {
        if (attribute.has_g()) visit(attribute.g());
        for (const onnx::GraphProto& graph : attribute.graphs()) visit(graph);
    }
}

/// Calls visit with each name that the graph defines.
template <class Visit>
void forEachDefinition(const onnx::GraphProto& graph, Visit&& visit) {
    for (const onnx::ValueInfoProto& input : graph.input()) visit(input.name());
    for (const onnx::TensorProto& tensor : graph.initializer()) visit(tensor.name());
    for (const onnx::SparseTensorProto& tensor : graph.sparse_initializer()) visit(tensor.values().name());
    for (const onnx::NodeProto& node : graph.node()) {
        for (const std::string& output : node.output()) visit(output);
    }
}

class CaptureFinder {
  public:
    void search(const onnx::NodeProto& node) {
        forEachSubgraph(node, [this](const onnx::GraphProto& graph) { search(graph); });
    }

    std::vector<std::string> found;

  private:
    std::vector<std::unordered_set<std::string_view>> scopes_;
    std::unordered_set<std::string_view> seen_;

    void search(const onnx::GraphProto& graph) {
        forEachDefinition(
            graph, [&, &scope = scopes_.emplace_back()](const std::string& name) { scope.insert(name); });
        for (const onnx::NodeProto& node : graph.node()) {
            for (const std::string& input : node.input()) use(input);
            search(node);
        }
        // An output of a body may be an outer value as it is.
        for (const onnx::ValueInfoProto& output : graph.output()) use(output.name());
        scopes_.pop_back();
    }

    void use(const std::string& name) {
        if (name.empty()) return;
        for (const auto& scope : scopes_) {
            if (scope.contains(name)) return;
        }
        if (seen_.insert(name).second) found.push_back(name);
    }
};

}  // namespace

std::vector<std::string> capturedNames(const onnx::NodeProto& node) {
    CaptureFinder finder;
    finder.search(node);
    return std::move(finder.found);
}

void collectInnerNames(const onnx::NodeProto& node, std::unordered_set<std::string>& names) {
    forEachSubgraph(node, [&](const onnx::GraphProto& graph) {
        forEachDefinition(graph, [&](const std::string& name) { names.insert(name); });
        for (const onnx::NodeProto& inner : graph.node()) {
            names.insert(inner.input().begin(), inner.input().end());
            collectInnerNames(inner, names);
        }
        for (const onnx::ValueInfoProto& output : graph.output()) names.insert(output.name());
    });
}

}  // namespace tcompress::ir
