#include "passes/prune/budget/allocation.h"

#include <algorithm>
#include <cmath>
#include <limits>

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
    constexpr double kNever = std::numeric_limits<double>::infinity();
    double least = 0;
    for (const auto& group : groups) least += cheapest(group);
    // Sums of the same costs in another order differ by rounding.
    const double rounding = 1e-9 * std::max(std::abs(budget), std::abs(least));
    if (least > budget + rounding) return std::nullopt;
    const double unit = std::max(budget - least, rounding) / static_cast<double>(steps);
    const auto width = static_cast<std::size_t>(steps) + 1;
    // error[s]: the least of the groups so far for at most s steps above the cheapest.
    std::vector<double> error(width, 0.0);
    std::vector<std::vector<std::uint32_t>> chosen;
    std::vector<std::vector<std::size_t>> above;
    for (const auto& group : groups) {
        const double base = cheapest(group);
        std::vector<std::size_t> cost;
        for (const Choice& choice : group) {
            const double inSteps = std::ceil((choice.cost - base) / unit - 1e-6);
            cost.push_back(inSteps >= static_cast<double>(width) ? width : static_cast<std::size_t>(std::max(inSteps, 0.0)));
        }
        std::vector<double> next(width, kNever);
        std::vector<std::uint32_t> best(width);
        for (std::size_t option = 0; option < group.size(); ++option)
            for (std::size_t s = cost[option]; s < width; ++s) {
                const double sum = error[s - cost[option]] + group[option].error;
                if (sum >= next[s]) continue;
                next[s] = sum;
                best[s] = static_cast<std::uint32_t>(option);
            }
        error = std::move(next);
        chosen.push_back(std::move(best));
        above.push_back(std::move(cost));
    }
    std::vector<std::size_t> result(groups.size());
    std::size_t left = width - 1;
    for (std::size_t group = groups.size(); group-- > 0;) {
        result[group] = chosen[group][left];
        left -= above[group][result[group]];
    }
    return result;
}

}  // namespace tcompress::passes
