#pragma once
// One choice for every group, so that the errors add up to the least and the costs stay within a budget: a
// multiple-choice knapsack (choice_knapsack.h) over costs in steps (Frantar and Alistarh 2022, "SPDY: Accurate Pruning
// with Speedup Guarantees").

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace tcompress::passes {

struct Choice {
    double cost = 0;
    double error = 0;
};

/// Index of the choice of each group (none of which is empty). Costs are counted in `steps` equal steps between the
/// cheapest that is possible and the budget, and rounded up: the budget always holds, and the answer is exact where
/// costs are whole steps. Nothing when even the cheapest choices cost more.
std::optional<std::vector<std::size_t>> allocate(const std::vector<std::vector<Choice>>& groups, double budget,
                                                 std::int64_t steps = 4096);

}  // namespace tcompress::passes
