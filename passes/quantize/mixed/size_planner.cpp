#include "passes/quantize/mixed/size_planner.h"

#include <algorithm>
#include <set>

namespace tcompress::passes {
namespace {

/// Rounds in which the budget is corrected.
constexpr int kRepairs = 16;

}  // namespace

SizePlanner::SizePlanner(const MixedPrecision& mixed, const std::vector<WeightChoices>& items)
    : mixed_(mixed) {
    for (const WeightChoices& item : items) {
        auto& choices = items_.emplace_back();
        for (const StorageChoice& choice : item.choices) choices.push_back({choice.damage, choice.bytes});
    }
}

std::optional<SizePlan> SizePlanner::within(std::int64_t budget) {
    std::optional<SizePlan> best;
    std::set<std::vector<std::size_t>> seen;
    std::int64_t allowed = budget - largestBytes(), step = 16;
    for (int round = 0; round < kRepairs; ++round) {
        auto selection = selectWithin(items_, allowed);
        if (!selection) {
            // The smallest of all may still fit.
            selection = smallest();
            if (seen.contains(selection->chosen)) break;
        }
        const bool isNew = seen.insert(selection->chosen).second;
        const std::int64_t bytes = bytesOf(selection->chosen);
        if (bytes <= budget && (!best || selection->cost < best->selection.cost))
            best = SizePlan{*selection, bytes};
        if (isNew) {
            allowed = selection->weight + budget - bytes;
        } else {
            if (bytes <= budget) break;
            allowed -= step;
            step *= 2;
        }
    }
    return best;
}

std::int64_t SizePlanner::largestBytes() { return bytesOf(std::vector<std::size_t>(items_.size(), 0)); }

std::int64_t SizePlanner::smallestBytes() { return bytesOf(smallest().chosen); }

std::int64_t SizePlanner::bytesOf(const std::vector<std::size_t>& selection) {
    const auto [found, isNew] = known_.try_emplace(selection, 0);
    if (isNew) found->second = mixed_.predictedBytes(selection);
    return found->second;
}

KnapsackSelection SizePlanner::smallest() const {
    std::int64_t sum = 0;
    for (const auto& choices : items_)
        sum += std::min_element(choices.begin(), choices.end(), [](const auto& a, const auto& b) {
                   return a.weight < b.weight;
               })->weight;
    return *selectWithin(items_, sum);
}

}  // namespace tcompress::passes
