#include "passes/prune/budget/allocation.h"

#include <algorithm>
#include <cmath>

#include "passes/support/choice_knapsack.h"

namespace tcompress::passes {
namespace {

double cheapest(const std::vector<Choice>& group) {
    return std::min_element(group.begin(), group.end(),
                            [](const Choice& a, const Choice& b) { return a.cost < b.cost; })
        ->cost;
}

}  // namespace

std::optional<std::vector<std::size_t>> allocate(const std::vector<std::vector<Choice>>& groups, double budget,
                                                 std::int64_t steps) {
    double least = 0;
    for (const auto& group : groups) least += cheapest(group);
    // Sums of the same costs in another order differ by rounding.
    const double rounding = 1e-9 * std::max(std::abs(budget), std::abs(least));
    if (least > budget + rounding) return std::nullopt;
    const double unit = std::max(budget - least, rounding) / static_cast<double>(steps);
    std::vector<std::vector<KnapsackChoice>> items;
    for (const auto& group : groups) {
        const double base = cheapest(group);
        std::vector<KnapsackChoice>& choices = items.emplace_back();
        for (const Choice& choice : group) {
            const double inSteps = std::ceil((choice.cost - base) / unit - 1e-6);
            // One step more than there are never fits.
            const double weight = std::clamp(inSteps, 0.0, static_cast<double>(steps) + 1);
            choices.push_back({choice.error, static_cast<std::int64_t>(weight)});
        }
    }
    return selectWithin(items, steps)->chosen;
}

}  // namespace tcompress::passes
