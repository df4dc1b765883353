#include "lib/ir/validate.h"

#include <fmt/core.h>

#include <algorithm>
#include <unordered_set>

#include "lib/ir/checker.h"
#include "lib/ir/internals.h"
#include "lib/ir/load.h"
#include "lib/support/check.h"

namespace tcompress::ir {
namespace {

class StructureValidator {
  public:
    explicit StructureValidator(const Graph& graph) : graph_(graph) {}

    void run() {
        checkNames();
        for (const Value* value : graph_.inputs()) defined_.insert(value);
        for (const Value* value : graph_.initializers()) {
            TCOMPRESS_CHECK(Internals::stored(*value) != nullptr,
                            fmt::format("initializer '{}' has no data", value->name()));
            defined_.insert(value);
        }
        for (std::size_t i = 0; i < graph_.nodes().size(); ++i) checkNode(*graph_.nodes()[i], i);
        checkOutputs();
        for (const auto& [name, value] : Internals::values(graph_)) checkUses(*value);
    }

  private:
    const Graph& graph_;
    std::unordered_set<const Value*> defined_;

    void checkNames() const {
        for (const auto& [name, value] : Internals::values(graph_)) {
            TCOMPRESS_CHECK(name == value->name(),
                            fmt::format("value '{}' is kept as '{}'", value->name(), name));
        }
    }

    void checkNode(const Node& node, std::size_t position) {
        TCOMPRESS_CHECK(node.position() == position,
                        fmt::format("node '{}' has a wrong position", node.label()));
        auto checkRead = [&](const Value* value) {
            TCOMPRESS_CHECK(
                value == nullptr || defined_.contains(value),
                fmt::format("node '{}' ({}) reads a value before it is produced, or of another graph",
                            node.label(), node.opType()));
        };
        for (const Value* value : node.inputs()) checkRead(value);
        for (const Value* value : node.captured()) checkRead(value);
        for (const Value* value : node.outputs()) {
            if (value == nullptr) continue;
            TCOMPRESS_CHECK(value->producer() == &node,
                            fmt::format("'{}' does not know its producer '{}'", value->name(), node.label()));
            TCOMPRESS_CHECK(
                graph_.find(value->name()) == value,
                fmt::format("output '{}' of node '{}' is not in the graph", value->name(), node.label()));
            TCOMPRESS_CHECK(defined_.insert(value).second,
                            fmt::format("'{}' is produced twice", value->name()));
        }
    }

    void checkOutputs() const {
        const auto& info = Internals::outputInfo(graph_);
        TCOMPRESS_CHECK(info.size() == graph_.outputs().size(),
                        "graph outputs and their declarations differ in number");
        for (std::size_t i = 0; i < info.size(); ++i) {
            const Value* value = graph_.outputs()[i];
            TCOMPRESS_CHECK(value != nullptr && defined_.contains(value),
                            fmt::format("graph output '{}' is produced by nothing", info[i].name()));
            TCOMPRESS_CHECK(
                value->name() == info[i].name(),
                fmt::format("graph output '{}' is now called '{}'", info[i].name(), value->name()));
        }
    }

    /// What each use list says is so; that nothing is missing shows in checkNode's count below.
    void checkUses(const Value& value) const {
        for (const Use& use : value.uses()) {
            bool isTrue = use.kind == UseKind::graphOutput
                              ? use.index < graph_.outputs().size() && graph_.outputs()[use.index] == &value
                          : use.kind == UseKind::input ? use.node->input(use.index) == &value
                                                       : std::count(use.node->captured().begin(),
                                                                    use.node->captured().end(), &value) == 1;
            TCOMPRESS_CHECK(isTrue, fmt::format("a use of '{}' is out of date", value.name()));
        }
    }
};

}  // namespace

void validateStructure(const Model& model) {
    const Graph& graph = model.graph();
    StructureValidator(graph).run();

    std::size_t expected = graph.outputs().size();
    for (const std::unique_ptr<Node>& node : graph.nodes()) {
        expected += node->captured().size();
        expected += static_cast<std::size_t>(std::count_if(node->inputs().begin(), node->inputs().end(),
                                                           [](const Value* v) { return v != nullptr; }));
    }
    std::size_t found = 0;
    for (const auto& [name, value] : Internals::values(graph)) found += value->uses().size();
    TCOMPRESS_CHECK(found == expected, fmt::format("{} uses are listed and {} exist", found, expected));
}

void checkFile(const std::filesystem::path& path) {
    checkWrittenFile(path, path);
    load(path);  // external data: places and sizes
}

}  // namespace tcompress::ir
