#include "passes/support/choice_knapsack.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/support/check.h"

namespace tcompress::passes {
namespace {

constexpr int kBisections = 80;
constexpr std::size_t kMostPartial = 1 << 20;

/// Where a partial selection comes from: the one before the item was added, and the item's choice.
struct Step {
    std::uint32_t before = 0;
    std::uint32_t choice = 0;
};

struct Partial {
    std::int64_t weight = 0;
    double cost = 0;
    double regret = 0;
    Step step;
};

class Knapsack {
  public:
    Knapsack(const std::vector<std::vector<KnapsackChoice>>& items, std::int64_t budget)
        : items_(items), budget_(budget), fewestBehind_(items.size() + 1, 0) {
        for (std::size_t i = items.size(); i-- > 0;) {
            TCOMPRESS_CHECK(!items[i].empty(), "an item without choices");
            std::int64_t fewest = std::numeric_limits<std::int64_t>::max();
            for (const KnapsackChoice& choice : items[i]) fewest = std::min(fewest, choice.weight);
            fewestBehind_[i] = fewestBehind_[i + 1] + fewest;
        }
    }

    std::optional<KnapsackSelection> run() {
        if (fewestBehind_.front() > budget_) return std::nullopt;
        KnapsackSelection first = priced();
        fill(first);
        double bound = -lambda_ * static_cast<double>(budget_);
        for (std::size_t i = 0; i < items_.size(); ++i) bound += reduced(i, cheapest(i, lambda_));
        return extended(first, std::min(bound, first.cost));
    }

  private:
    double reduced(std::size_t item, std::size_t choice) const {
        const KnapsackChoice& it = items_[item][choice];
        return it.cost + lambda_ * static_cast<double>(it.weight);
    }

    /// The choice with the smallest cost + λ·weight, the smaller of equals.
    std::size_t cheapest(std::size_t item, double lambda) const {
        std::size_t best = 0;
        const auto price = [&](const KnapsackChoice& choice) {
            return choice.cost + lambda * static_cast<double>(choice.weight);
        };
        for (std::size_t c = 1; c < items_[item].size(); ++c) {
            const double difference = price(items_[item][c]) - price(items_[item][best]);
            if (difference < 0 || (difference == 0 && items_[item][c].weight < items_[item][best].weight))
                best = c;
        }
        return best;
    }

    KnapsackSelection at(double lambda) const {
        KnapsackSelection selection;
        for (std::size_t i = 0; i < items_.size(); ++i) add(selection, i, cheapest(i, lambda));
        return selection;
    }

    KnapsackSelection smallest() const {
        KnapsackSelection selection;
        for (std::size_t i = 0; i < items_.size(); ++i) {
            const auto fewest =
                std::min_element(items_[i].begin(), items_[i].end(), [](const auto& a, const auto& b) {
                    return a.weight != b.weight ? a.weight < b.weight : a.cost < b.cost;
                });
            add(selection, i, static_cast<std::size_t>(fewest - items_[i].begin()));
        }
        return selection;
    }

    void add(KnapsackSelection& selection, std::size_t item, std::size_t choice) const {
        selection.chosen.push_back(choice);
        selection.cost += items_[item][choice].cost;
        selection.weight += items_[item][choice].weight;
    }

    /// Sets λ: the lowest price at which everything fits, with that selection.
    KnapsackSelection priced() {
        KnapsackSelection free = at(0);
        if (free.weight <= budget_) return free;
        KnapsackSelection best = smallest();
        double low = -120, high = 60;  // log₂ λ
        lambda_ = std::exp2(high);
        for (int i = 0; i < kBisections; ++i) {
            const double middle = (low + high) / 2;
            KnapsackSelection tried = at(std::exp2(middle));
            if (tried.weight <= budget_) {
                high = middle;
                lambda_ = std::exp2(middle);
                best = std::move(tried);
            } else {
                low = middle;
            }
        }
        return best;
    }

    /// Spends what is left of the budget where it gains most.
    void fill(KnapsackSelection& selection) const {
        while (true) {
            double bestGain = 0;
            std::size_t bestItem = 0, bestChoice = 0;
            for (std::size_t i = 0; i < items_.size(); ++i) {
                const KnapsackChoice& now = items_[i][selection.chosen[i]];
                for (std::size_t c = 0; c < items_[i].size(); ++c) {
                    const double gain = now.cost - items_[i][c].cost;
                    if (gain <= bestGain || selection.weight - now.weight + items_[i][c].weight > budget_)
                        continue;
                    bestGain = gain;
                    bestItem = i;
                    bestChoice = c;
                }
            }
            if (bestGain <= 0) return;
            const KnapsackChoice &before = items_[bestItem][selection.chosen[bestItem]],
                                 &after = items_[bestItem][bestChoice];
            selection.cost += after.cost - before.cost;
            selection.weight += after.weight - before.weight;
            selection.chosen[bestItem] = bestChoice;
        }
    }

    KnapsackSelection extended(KnapsackSelection first, double bound) const {
        // Rounding must not drop the optimum.
        const double gap = (first.cost - bound) * (1 + 1e-9) + 1e-12 * std::fabs(first.cost);
        std::vector<std::vector<Step>> steps;
        std::vector<Partial> partial{{}};
        bool complete = true;
        for (std::size_t i = 0; i < items_.size(); ++i) {
            partial = onePlus(partial, i, gap);
            if (partial.size() > kMostPartial) {
                complete = false;
                std::nth_element(partial.begin(), partial.begin() + kMostPartial, partial.end(),
                                 [](const Partial& a, const Partial& b) { return a.regret < b.regret; });
                partial.resize(kMostPartial);
                sortByWeight(partial);
            }
            std::vector<Step>& made = steps.emplace_back();
            for (const Partial& one : partial) made.push_back(one.step);
        }
        // The undominated are in the order of their weight: the last is the best.
        if (!partial.empty() && partial.back().cost < first.cost) {
            first.cost = partial.back().cost;
            first.weight = partial.back().weight;
            std::size_t place = partial.size() - 1;
            for (std::size_t i = items_.size(); i-- > 0;) {
                first.chosen[i] = steps[i][place].choice;
                place = steps[i][place].before;
            }
        }
        first.bound = complete ? first.cost : bound;
        return first;
    }

    static void sortByWeight(std::vector<Partial>& partial) {
        std::sort(partial.begin(), partial.end(), [](const Partial& a, const Partial& b) {
            if (a.weight != b.weight) return a.weight < b.weight;
            if (a.cost != b.cost) return a.cost < b.cost;
            return a.step.before != b.step.before ? a.step.before < b.step.before
                                                  : a.step.choice < b.step.choice;
        });
    }

    /// The partial selections with one more item: undominated, sorted by weight, costs falling.
    std::vector<Partial> onePlus(const std::vector<Partial>& partial, std::size_t item, double gap) const {
        const double least = reduced(item, cheapest(item, lambda_));
        std::vector<Partial> all;
        for (std::size_t c = 0; c < items_[item].size(); ++c) {
            const double regret = reduced(item, c) - least;
            for (std::size_t p = 0; p < partial.size(); ++p) {
                const std::int64_t weight = partial[p].weight + items_[item][c].weight;
                if (partial[p].regret + regret > gap || weight + fewestBehind_[item + 1] > budget_) continue;
                all.push_back({weight, partial[p].cost + items_[item][c].cost, partial[p].regret + regret,
                               {static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(c)}});
            }
        }
        sortByWeight(all);
        std::vector<Partial> kept;
        for (const Partial& one : all)
            if (kept.empty() || one.cost < kept.back().cost) kept.push_back(one);
        return kept;
    }

    const std::vector<std::vector<KnapsackChoice>>& items_;
    std::int64_t budget_;
    std::vector<std::int64_t> fewestBehind_;  ///< weight of items i … at least
    double lambda_ = 0;
};

}  // namespace

std::optional<KnapsackSelection> selectWithin(const std::vector<std::vector<KnapsackChoice>>& items,
                                              std::int64_t budget) {
    return Knapsack(items, budget).run();
}

}  // namespace tcompress::passes
