#pragma once
// Why positions of a leaf may not be removed: an operator looks at the axis as a whole, the leaf is frozen,
// or somebody outside the model sees it. Private to lib/analysis.

#include <map>
#include <set>
#include <string>

#include "lib/analysis/axes.h"
#include "lib/analysis/shrink.h"

namespace tcompress::analysis {

class LeafGuard {
  public:
    LeafGuard(const ir::Model& model, const ModelAxes& axes, NormalizedAxes normalized = NormalizedAxes::refused);

    /// Empty when positions of the leaf may go.
    std::set<std::string> refusals(AtomId leaf) const;

  private:
    const ModelAxes& axes_;
    std::map<AtomId, std::set<std::string>> reasons_;
};

/// A graph input or output that holds keys or values of earlier tokens. It may become smaller with the heads.
bool isCacheName(const std::string& name);

}  // namespace tcompress::analysis
