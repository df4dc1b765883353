#include "passes/prune/budget/refinement.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "passes/support/local_search.h"

namespace tcompress::passes {
namespace {

class Refiner {
  public:
    Refiner(const Anatomy& anatomy, const ErrorTable& errors, CostModel& costs, double budget, Random random)
        : anatomy_(anatomy), errors_(errors), costs_(costs), budget_(budget), random_(std::move(random)) {}

    /// A part at random becomes one of the next dearer things, and another, at random, the best of the cheaper ones with
    /// which the sum of the parts is no more than before.
    std::optional<Assignment> neighbour(const Assignment& assignment) {
        const std::uint64_t count = anatomy_.parts.size();
        const auto up = static_cast<std::size_t>(random_.below(count));
        const auto down = static_cast<std::size_t>(random_.below(count));
        const std::uint64_t distance = random_.below(4);
        const double before = costs_.table().predicted(anatomy_, assignment);
        Assignment next = assignment;
        const std::vector<PartChoice> dearer = sorted(up, [&](double cost) { return cost > costOf(up, assignment[up]); });
        if (up == down || dearer.empty()) return std::nullopt;
        next[up] = dearer[static_cast<std::size_t>(std::min<std::uint64_t>(distance, dearer.size() - 1))];
        std::optional<PartChoice> best;
        double least = std::numeric_limits<double>::infinity();
        for (const PartChoice& choice : anatomy_.parts[down].choices) {
            const double error = errors_.parts[down][anatomy_.parts[down].indexOf(choice)];
            next[down] = choice;
            if (choice == assignment[down] || !(error < least) || costs_.table().predicted(anatomy_, next) > before) continue;
            best = choice;
            least = error;
        }
        if (!best) return std::nullopt;
        next[down] = *best;
        return next;
    }

    bool fits(const Assignment& assignment) { return costs_.cost(assignment) <= budget_ * (1 + 1e-9); }

  private:
    double costOf(std::size_t part, const PartChoice& choice) const {
        return -costs_.table().savedBy(anatomy_.parts[part], choice);
    }

    /// The choices of a part whose costs pass, the cheapest first.
    template <class Passes>
    std::vector<PartChoice> sorted(std::size_t part, Passes passes) const {
        std::vector<PartChoice> result;
        const Part& found = anatomy_.parts[part];
        for (const PartChoice& choice : found.choices)
            if (std::isfinite(errors_.parts[part][found.indexOf(choice)]) && passes(costOf(part, choice)))
                result.push_back(choice);
        std::stable_sort(result.begin(), result.end(), [&](const PartChoice& a, const PartChoice& b) {
            return costOf(part, a) < costOf(part, b);
        });
        return result;
    }

    const Anatomy& anatomy_;
    const ErrorTable& errors_;
    CostModel& costs_;
    double budget_;
    Random random_;
};

}  // namespace

Refinement refine(const ir::Model& model, const Anatomy& anatomy, const ErrorTable& errors, CostModel& costs, double budget,
                  const Assignment& planned, const data::Dataset& judges, const pipeline::PassContext& context) {
    const OutputJudge judge(model, comparableOutputs(model.graph(), anatomy.spans), judges, context);
    std::map<std::string, double> known;
    const auto error = [&](const Assignment& assignment) {
        const auto [found, isNew] = known.try_emplace(assignmentKey(assignment));
        if (isNew) found->second = judge.error(assembled(model, anatomy, errors.layers, assignment));
        return found->second;
    };
    Refiner refiner(anatomy, errors, costs, budget, context.random("refinement"));
    const double before = error(planned);
    double best = before;
    // Only what is better is measured: that takes longest.
    const auto judged = [&](const Assignment& assignment) {
        const double found = error(assignment);
        if (!(found < best)) return found;
        if (!refiner.fits(assignment)) return std::numeric_limits<double>::infinity();
        return best = found;
    };
    auto [assignment, after] = refinedByTrials(
        planned, before, kRefinementTrials, [&](const Assignment& from) { return refiner.neighbour(from); }, judged);
    return {std::move(assignment), before, after};
}

}  // namespace tcompress::passes
