#include "passes/support/layerwise.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "lib/support/parallel.h"
#include "passes/support/evidence.h"
#include "passes/support/ridge_descent.h"

namespace tcompress::passes {
namespace {

using analysis::Site;
using analysis::TransformerView;

std::size_t lastPosition(const TargetWeight& weight) {
    std::size_t position = 0;
    for (const Site* site : weight.sites) position = std::max(position, site->node->position());
    return position;
}

/// Weights with the values that their sites read, in the graph's order of their last reader: the whole weight is
/// fitted when all that its sites read has been seen.
std::vector<std::vector<const TargetWeight*>> groupsOf(const std::vector<const TargetWeight*>& weights) {
    std::vector<const TargetWeight*> ordered = weights;
    std::stable_sort(ordered.begin(), ordered.end(), [](const TargetWeight* a, const TargetWeight* b) {
        return lastPosition(*a) < lastPosition(*b);
    });
    std::vector<std::vector<const TargetWeight*>> groups;
    for (const TargetWeight* weight : ordered) {
        const auto sameInput = [&](const std::vector<const TargetWeight*>& group) {
            return weight->sites.size() == 1 && group.front()->sites.size() == 1 &&
                   group.front()->sites.front()->input == weight->sites.front()->input;
        };
        const auto group = std::find_if(groups.begin(), groups.end(), sameInput);
        if (group == groups.end())
            groups.push_back({weight});
        else
            group->push_back(weight);
    }
    return groups;
}

std::vector<LayerProblem> problemsOf(const std::vector<const TargetWeight*>& group, const TransformerView& view,
                                     EvidenceWalk& walk) {
    std::vector<EvidenceQuery> queries;
    for (const TargetWeight* weight : group)
        for (const EvidenceQuery& query : queriesOf(*weight, view)) queries.push_back(query);
    std::vector<Evidence> evidence = walk.collect(queries);
    std::vector<LayerProblem> problems;
    std::size_t next = 0;
    for (const TargetWeight* weight : group) {
        const Site& site = *weight->sites.front();
        problems.push_back({weight, readLayer(site), biasFit(site), std::move(evidence[next++])});
        for (std::size_t i = 1; i < weight->sites.size(); ++i, ++next) {
            problems.back().evidence.fit += evidence[next].fit;
            problems.back().evidence.held += evidence[next].held;
        }
    }
    return problems;
}

}  // namespace

const ir::Node* residualAddOf(const TransformerView& view, const Site& site) {
    const auto isIn = [&](const std::vector<std::size_t>& sites) {
        return std::any_of(sites.begin(), sites.end(),
                           [&](std::size_t index) { return &view.sites[index] == &site; });
    };
    for (const auto& layer : view.attention)
        if (isIn(layer.o)) return layer.residualAdd;
    for (const auto& layer : view.feedForward)
        if (isIn(layer.down)) return layer.residualAdd;
    return nullptr;
}

std::vector<EvidenceQuery> queriesOf(const TargetWeight& weight, const TransformerView& view) {
    std::vector<EvidenceQuery> queries;
    for (const Site* site : weight.sites) queries.push_back(evidenceQuery(*site, residualAddOf(view, *site)));
    return queries;
}

void walkInOrder(EvidenceWalk& walk, std::vector<WalkStep> steps) {
    std::stable_sort(steps.begin(), steps.end(),
                     [](const WalkStep& a, const WalkStep& b) { return a.position < b.position; });
    // The first block that a step or one after it changes.
    std::vector<int> first(steps.size());
    int earliest = std::numeric_limits<int>::max();
    for (std::size_t i = steps.size(); i-- > 0;) {
        for (const Site* site : steps[i].sites) earliest = std::min(earliest, walk.blockOf(*site));
        first[i] = earliest;
    }
    for (std::size_t i = 0; i < steps.size(); ++i) {
        walk.advanceTo(first[i]);
        steps[i].run(walk);
    }
}

std::vector<WalkStep> layerSteps(ir::Model& model, const TransformerView& view,
                                 const std::vector<const TargetWeight*>& weights,
                                 const std::function<LinearLayer(LayerProblem&)>& fit) {
    std::vector<WalkStep> steps;
    for (const auto& group : groupsOf(weights)) {
        WalkStep step;
        for (const TargetWeight* weight : group) {
            step.sites.insert(step.sites.end(), weight->sites.begin(), weight->sites.end());
            step.position = std::max(step.position, lastPosition(*weight));
        }
        step.run = [&model, &view, fit, group](EvidenceWalk& walk) {
            std::vector<LayerProblem> problems = problemsOf(group, view, walk);
            ir::Edit edit(model, "layerwise fit");
            for (LayerProblem& next : problems) {
                LayerProblem problem = std::move(next);  // its sums go when it is done
                writeLayer(edit, *problem.weight, problem.start, fit(problem));
            }
            edit.commit();
        };
        steps.push_back(std::move(step));
    }
    return steps;
}

void fitLayerwise(ir::Model& model, const ir::Model& reference, const TransformerView& view,
                  const std::vector<const TargetWeight*>& weights, const data::Split& samples, const calibration::Environment& environment,
                  const std::function<LinearLayer(LayerProblem&)>& fit) {
    EvidenceWalk walk(reference, model, view, samples, environment);
    walkInOrder(walk, layerSteps(model, view, weights, fit));
}

ir::Model referenceFor(const ir::Model& model, const std::vector<const TargetWeight*>& weights,
                       const TransformerView& view, const data::Dataset& samples,
                       const pipeline::PassContext& context) {
    std::vector<EvidenceQuery> queries;
    for (const TargetWeight* weight : weights)
        for (const EvidenceQuery& query : queriesOf(*weight, view)) queries.push_back(query);
    return referenceFor(model, queries, samples, context);
}

std::vector<const TargetWeight*> withoutRefusal(const std::vector<TargetWeight>& weights,
                                                const std::function<std::string(const TargetWeight&)>& refusal,
                                                pipeline::PassReport& report) {
    std::vector<const TargetWeight*> usable;
    for (const TargetWeight& weight : weights) {
        if (const std::string reason = refusal(weight); reason.empty())
            usable.push_back(&weight);
        else
            skip(report, weight, reason);
    }
    return usable;
}

namespace {

using Solve = std::function<LinearLayer(const LayerSums&, const RefitChoice&)>;

/// Ridges that are tried, from the middle downhill, as chooseRefit().
constexpr std::array<double, 5> kRidges = {1e-3, 1e-2, 0.1, 0.3, 1};
constexpr std::size_t kMiddle = kRidges.size() / 2;

RefitChoice tryRidge(const LayerProblem& problem, const Solve& solve, double ridge) {
    RefitChoice made = chooseShare(problem.evidence, problem.start, ridge, problem.bias);
    made.heldError = std::pow(heldBackError(problem, solve(problem.evidence.fit, made)), 2);
    return made;
}

}  // namespace

ConstrainedFit chooseConstrained(const LayerProblem& problem, const Solve& solve) {
    const RefitChoice choice = chooseUnderConstraint(problem, solve);
    return {choice, solve(problem.evidence.all(), choice)};
}

RefitChoice chooseUnderConstraint(const LayerProblem& problem, const Solve& solve) {
    return leastHeldError(kRidges, [&](double ridge) { return tryRidge(problem, solve, ridge); });
}

namespace {

/// The problem of every n-th run of `together` outputs, as many as know which ridge is best. It has the XᵀX of the whole, which
/// is the same for all outputs and most of what sums take, for as long as it lives.
class FewOutputs {
  public:
    FewOutputs(LayerProblem& whole, std::int64_t together) : whole_(whole), few_{whole.weight, {}, whole.bias, {{0, 0}, {0, 0}}} {
        constexpr std::int64_t kEnoughOutputs = 96;
        const std::int64_t outputs = whole.evidence.fit.outputs, every = std::max<std::int64_t>(1, outputs / kEnoughOutputs);
        std::vector<std::int64_t> kept;
        for (std::int64_t first = 0; first < outputs; first += every * together)
            for (std::int64_t o = first; o < std::min(outputs, first + together); ++o) kept.push_back(o);
        few_.start = keepOutputs(whole.start, kept);
        for (LayerSums Evidence::*rows : {&Evidence::fit, &Evidence::held}) {
            std::vector<double> xx = std::move((whole.evidence.*rows).xx);
            (few_.evidence.*rows) = keepOutputs(whole.evidence.*rows, kept);
            (few_.evidence.*rows).xx = std::move(xx);
        }
    }
    ~FewOutputs() {
        for (LayerSums Evidence::*rows : {&Evidence::fit, &Evidence::held})
            (whole_.evidence.*rows).xx = std::move((few_.evidence.*rows).xx);
    }
    FewOutputs(const FewOutputs&) = delete;

    const LayerProblem& problem() const { return few_; }

  private:
    LayerProblem& whole_;
    LayerProblem few_;
};

RefitChoice bestRidge(const LayerProblem& few, const RidgeTrial& trial) {
    const auto tryOnFew = [&](double ridge) {
        const RidgeFit fit = fitAtRidge(few.evidence, few.start, ridge, few.bias);
        RefitChoice made = fit.choice;
        made.heldError = std::pow(heldBackError(few, trial(few.evidence.fit, few.start, fit)), 2);
        return made;
    };
    // In the order in which they are asked for. As many as there are threads go side by side; what is asked for then has all
    // threads to itself.
    constexpr std::array<std::size_t, 3> kOrder = {kMiddle, kMiddle + 1, kMiddle - 1};
    const auto count = std::min<std::int64_t>(std::ssize(kOrder), threadCount());
    std::array<RefitChoice, kOrder.size()> first;
    parallelFor(count, [&](std::int64_t i) {
        const auto at = static_cast<std::size_t>(i);
        first[at] = tryOnFew(kRidges[kOrder[at]]);
    });
    std::map<std::size_t, RefitChoice> tried;
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) tried[kOrder[i]] = first[i];
    return leastHeldError(kRidges, tryOnFew, std::move(tried));
}

}  // namespace

ConstrainedFit chooseConstrained(LayerProblem& problem, const RidgeTrial& trial, const Solve& solve, std::int64_t together) {
    RefitChoice choice = bestRidge(FewOutputs(problem, together).problem(), trial);
    // What is reported is the error of all outputs.
    const LayerSums& rows = problem.evidence.fit;
    choice.heldError = std::pow(heldBackError(problem, trial(rows, problem.start, {choice, refit(rows, problem.start, choice)})), 2);
    problem.evidence.fit += problem.evidence.held;
    return {choice, solve(rows, choice)};
}

double Refitted::relative(double error) const { return whole > 0 ? std::sqrt(std::max(0.0, error) / whole) : 0.0; }

Refitted refitWhereBetter(const Evidence& evidence, const LinearLayer& start, BiasFit bias) {
    Refitted result;
    result.whole = evidence.held.yy;
    result.before = squaredError(evidence.held, start, 1);
    const RefitChoice choice = chooseRefit(evidence, start, bias);
    result.after = choice.heldError * result.whole;
    // The sums' products are of float32: below this the errors are rounding.
    const double noise = 1e-6 * result.whole;
    if (result.after < result.before && result.before > noise) {
        result.layer = refit(evidence.all(), start, choice);
        result.choice = choice;
    } else {
        result.layer = start;
        result.after = result.before;
    }
    return result;
}

std::string describe(const RefitChoice& choice) {
    const std::string share =
        choice.share > 0
            ? fmt::format(", {:.0f} % of the residual stream's error taken over", 100 * choice.share)
            : std::string();
    return fmt::format("ridge {}{}, bias {}", choice.ridge, share,
                       choice.bias == BiasFit::fitted ? "moved" : "kept");
}

double heldBackError(const LayerProblem& problem, const LinearLayer& layer) {
    const LayerSums& held = problem.evidence.held;
    return held.yy > 0 ? std::sqrt(std::max(0.0, squaredError(held, layer, 1)) / held.yy) : 0.0;
}

}  // namespace tcompress::passes
