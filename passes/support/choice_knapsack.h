#pragma once
// The multiple-choice knapsack: one choice for each item, the sum of costs least, the sum of weights (bytes, steps of
// time, …) within a budget.
//
// A Lagrange multiplier λ prices weight, so that every item by itself takes the choice with the smallest
// cost + λ·weight; λ is bisected until the weights fit. That selection, improved greedily, is a first solution, and
//
//     Σ min (cost + λ·weight) − λ·budget ≤ least cost
//
// bounds what is left to gain. A selection that beats the first solution takes, over all items together, at most
// that gap more than the minima: its regret. Partial selections are therefore extended item by item, and dropped
// when their regret passes the gap, or when another has less weight and no more cost. What remains holds the
// optimum.
//
// Source: Sinha and Zoltners 1979, "The Multiple-Choice Knapsack Problem"; the bound by reduced costs: Dyer,
// Kayal and Walker 1984, "A Branch and Bound Algorithm for Solving the Multiple-Choice Knapsack Problem".

#include <cstdint>
#include <optional>
#include <vector>

namespace tcompress::passes {

struct KnapsackChoice {
    double cost = 0;          ///< not negative
    std::int64_t weight = 0;  ///< may be negative: what is saved
};

struct KnapsackSelection {
    std::vector<std::size_t> chosen;  ///< for each item the number of its choice
    double cost = 0;
    std::int64_t weight = 0;
    /// No selection within the budget costs less. Equal to the cost, up to rounding, unless there were more
    /// partial selections than are kept (a million).
    double bound = 0;
};

/// Nothing when no selection fits. Every item has at least one choice.
std::optional<KnapsackSelection> selectWithin(const std::vector<std::vector<KnapsackChoice>>& items,
                                              std::int64_t budget);

}  // namespace tcompress::passes
