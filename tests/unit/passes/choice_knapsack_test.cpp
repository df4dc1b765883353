// The multiple-choice knapsack against all selections there are, and on problems too large for that.

#include "passes/support/choice_knapsack.h"

#include <catch2/catch.hpp>

#include "lib/support/random.h"

using namespace tcompress;
using passes::KnapsackChoice;
using Items = std::vector<std::vector<KnapsackChoice>>;

namespace {

Items randomItems(std::size_t count, std::size_t choices, std::uint64_t seed) {
    Random random(seed, "knapsack");
    Items items(count);
    for (auto& item : items)
        for (std::size_t c = 0; c < choices; ++c)
            item.push_back({random.uniform(), static_cast<std::int64_t>(random.uniform() * 50) - 10});
    return items;
}

/// The least cost within the budget, by trying all selections; negative when none fits.
double leastCost(const Items& items, std::int64_t budget) {
    std::vector<std::size_t> chosen(items.size(), 0);
    double best = -1;
    while (true) {
        double cost = 0;
        std::int64_t weight = 0;
        for (std::size_t i = 0; i < items.size(); ++i) {
            cost += items[i][chosen[i]].cost;
            weight += items[i][chosen[i]].weight;
        }
        if (weight <= budget && (best < 0 || cost < best)) best = cost;
        std::size_t i = 0;
        while (i < items.size() && ++chosen[i] == items[i].size()) chosen[i++] = 0;
        if (i == items.size()) return best;
    }
}

void checkSelection(const Items& items, std::int64_t budget, const passes::KnapsackSelection& found) {
    double cost = 0;
    std::int64_t weight = 0;
    REQUIRE(found.chosen.size() == items.size());
    for (std::size_t i = 0; i < items.size(); ++i) {
        REQUIRE(found.chosen[i] < items[i].size());
        cost += items[i][found.chosen[i]].cost;
        weight += items[i][found.chosen[i]].weight;
    }
    CHECK(found.cost == Approx(cost));
    CHECK(found.weight == weight);
    CHECK(found.weight <= budget);
    CHECK(found.bound <= found.cost * (1 + 1e-9));
}

}  // namespace

TEST_CASE("The knapsack finds what trying everything finds") {
    int fitting = 0;
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        const Items items = randomItems(1 + seed % 6, 1 + seed % 5, seed);
        for (const std::int64_t budget : {-60, -20, 0, 15, 40, 80, 160, 400}) {
            const double least = leastCost(items, budget);
            const auto found = passes::selectWithin(items, budget);
            INFO("seed " << seed << ", budget " << budget);
            REQUIRE(found.has_value() == (least >= 0));
            if (!found) continue;
            ++fitting;
            checkSelection(items, budget, *found);
            CHECK(found->cost == Approx(least).margin(1e-12));
            CHECK(found->bound == Approx(least).margin(1e-12));
        }
    }
    CHECK(fitting > 100);
}

TEST_CASE("More budget never costs more, and the optimum of large problems is proved") {
    const Items items = randomItems(200, 20, 7);
    double before = 1e300;
    for (const std::int64_t budget : {-1000, -500, 0, 1000, 3000, 20000}) {
        const auto found = passes::selectWithin(items, budget);
        REQUIRE(found.has_value());
        checkSelection(items, budget, *found);
        CHECK(found->bound == Approx(found->cost).epsilon(1e-9));
        CHECK(found->cost <= before);
        before = found->cost;
    }
}
