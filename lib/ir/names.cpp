#include "lib/ir/names.h"

#include <fmt/core.h>

#include "lib/ir/subgraphs.h"

namespace tcompress::ir {

FreshNames::FreshNames(const Graph& graph) : graph_(graph) {
    for (const std::unique_ptr<Node>& node : graph.nodes()) {
        nodes_.insert(node->name());
        if (node->hasSubgraph()) collectInnerNames(node->proto(), values_);
    }
}

template <class IsTaken>
std::string FreshNames::firstFree(std::string_view wish, std::unordered_set<std::string>& taken,
                                  IsTaken&& isTaken) {
    std::string name(wish);
    // The counter only saves time: a thousand nodes of one name need not try a thousand numbers each.
    int& number = nextNumber_[name];
    while (isTaken(name)) name = fmt::format("{}_{}", wish, ++number);
    taken.insert(name);
    return name;
}

std::string FreshNames::forValue(std::string_view wish) {
    return firstFree(wish, values_, [this](const std::string& name) {
        return name.empty() || values_.contains(name) || graph_.find(name) != nullptr;
    });
}

std::string FreshNames::forNode(std::string_view wish) {
    return firstFree(wish, nodes_,
                     [this](const std::string& name) { return name.empty() || nodes_.contains(name); });
}

}  // namespace tcompress::ir
