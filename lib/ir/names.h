#pragma once
// Names that nothing in a graph has yet.

#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "lib/ir/graph.h"

namespace tcompress::ir {

class FreshNames {
  public:
    /// Takes the names inside sub-graphs into account, which must not be redefined outside.
    explicit FreshNames(const Graph& graph);
    /// `wish`, or `wish` with the first free number behind it; taken from now on.
    std::string forValue(std::string_view wish);
    std::string forNode(std::string_view wish);

  private:
    const Graph& graph_;
    std::unordered_set<std::string> values_;
    std::unordered_set<std::string> nodes_;
    std::unordered_map<std::string, int> nextNumber_;

    template <class IsTaken>
    std::string firstFree(std::string_view wish, std::unordered_set<std::string>& taken, IsTaken&& isTaken);
};

}  // namespace tcompress::ir
