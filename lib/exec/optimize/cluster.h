#pragma once
// Parts of a plan that compute one value from another one alone, for rewrites that recognise a function by
// evaluating it.

#include <functional>
#include <set>
#include <vector>

#include "lib/exec/optimize/rewriter.h"

namespace tcompress::exec {

/// Nodes between `source` and the last one; their other inputs are constants of one element.
struct Cluster {
    std::set<const PlanNode*> nodes;
    ValueId source = kNoValue;
};

/// Every way to cut the cone of accepted nodes above `last` at a single value, the smallest cluster first. A
/// node belongs to it only when all its readers do: it would vanish.
std::vector<Cluster> clustersAbove(const Rewriter& rewriter, const PlanNode& last, std::size_t largest,
                                   const std::function<bool(const PlanNode&)>& accepts);

/// Output 0 of `last` for x as the cluster's source. Throws what operators throw.
Tensor evaluate(const Rewriter& rewriter, const Cluster& cluster, const PlanNode& last, const Tensor& x);

}  // namespace tcompress::exec
