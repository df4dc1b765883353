#include "passes/support/unit_plan.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <optional>

#include "passes/support/layer_runs.h"
#include "passes/support/local_search.h"
#include "passes/support/output_judge.h"
#include "passes/support/removal_paths.h"

namespace tcompress::passes {
namespace {

using analysis::TransformerView;

constexpr int kTrials = 24;

/// Units that each task keeps.
using Plan = std::vector<std::int64_t>;

struct Layers {
    std::vector<std::int64_t> sizes;
    /// What the model's outputs lose without 1, 2, … units of a layer; empty when it cannot be compensated.
    std::vector<std::vector<double>> costs;
};

/// Takes `count` units from the layers, `step` at once, each time where it costs least; no layer loses more than the
/// share `most` of its units.
Plan sharedOut(const Layers& layers, std::int64_t count, std::int64_t step, double most) {
    Plan plan = layers.sizes;
    for (; count >= step; count -= step) {
        std::optional<std::size_t> cheapest;
        double least = std::numeric_limits<double>::infinity();
        for (std::size_t i = 0; i < plan.size(); ++i) {
            const std::vector<double>& costs = layers.costs[i];
            const std::int64_t gone = layers.sizes[i] - plan[i];
            const auto limit = static_cast<std::int64_t>(most * static_cast<double>(layers.sizes[i]) + 1e-9);
            if (gone + step > std::min(std::ssize(costs), limit)) continue;
            const double more = costs[static_cast<std::size_t>(gone + step - 1)] -
                                (gone == 0 ? 0.0 : costs[static_cast<std::size_t>(gone - 1)]);
            if (!(more < least)) continue;
            cheapest = i;
            least = more;
        }
        if (!cheapest) break;
        plan[*cheapest] -= step;
    }
    return plan;
}

/// Numbers at which a layer's stages are kept: all of a few units, else sixteenths.
std::vector<std::int64_t> stagesOf(std::int64_t units) {
    constexpr std::int64_t kMost = 16;
    const std::int64_t count = std::min(units, kMost);
    std::vector<std::int64_t> keeps;
    for (std::int64_t i = count - 1; i > 0; --i) keeps.push_back(std::max<std::int64_t>(1, units * i / count));
    return keeps;
}

/// The first block that a task's layers are in.
int blockOf(const TransformerView& view, const UnitTask& task) {
    int block = -1;
    for (const UnitLayer& layer : task.layers.layers)
        for (const std::size_t site : layer.consumers)
            if (block < 0 || view.sites[site].block < block) block = view.sites[site].block;
    return block;
}

class Planner {
  public:
    Planner(const ir::Model& model, const TransformerView& view, std::vector<UnitTask>& tasks, const data::Split& samples,
            const pipeline::PassContext& context)
        : model_(model),
          outputs_(comparableOutputs(model.graph(), layerSpans(view, LayerPart::block))),
          samples_(samplesToPlanBy(samples)),
          context_(context) {
        std::vector<std::vector<std::int64_t>> keeps;
        for (const UnitTask& task : tasks) {
            layers_.sizes.push_back(view.axes->store->leafSize(task.layers.leaf));
            keeps.push_back(stagesOf(layers_.sizes.back()));
        }
        paths_.emplace(removalPaths(model, view, tasks, keeps, samples_, context));
        measureCosts(view, tasks);
    }

    const Layers& layers() const { return layers_; }

    /// The plan that the outputs miss least, refined by moving `step` units, or so many that stages differ.
    Plan bestOf(const std::vector<Plan>& plans, std::int64_t step) const {
        const OutputJudge judge = makeJudge();
        std::map<Plan, double> known;
        const auto error = [&](const Plan& plan) {
            const auto [found, isNew] = known.try_emplace(plan);
            if (isNew) found->second = judge.error(withStages(model_, paths_->store, stages(plan)));
            return found->second;
        };
        const Plan best = *std::min_element(plans.begin(), plans.end(),
                                            [&](const Plan& a, const Plan& b) { return error(a) < error(b); });
        Random random = context_.random("plan");
        const auto propose = [&](const Plan& plan) { return withMove(plan, step, random); };
        return refinedByTrials(best, error(best), kTrials, propose, error).first;
    }

  private:
    OutputJudge makeJudge() const { return OutputJudge(model_, outputs_, judgesOf(samples_), context_); }

    /// Layers in the order of the graph, so that the judge goes along.
    void measureCosts(const TransformerView& view, const std::vector<UnitTask>& tasks) {
        std::vector<std::size_t> order(tasks.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
            return blockOf(view, tasks[a]) < blockOf(view, tasks[b]);
        });
        layers_.costs.resize(tasks.size());
        OutputJudge judge = makeJudge();
        for (const std::size_t task : order) {
            if (const int block = blockOf(view, tasks[task]); block >= 0)
                judge.advanceTo(view.blocks[static_cast<std::size_t>(block)].input);
            layers_.costs[task] = outputErrors(model_, paths_->paths[task], paths_->store, layers_.sizes[task], judge);
        }
    }

    std::vector<const UnitStage*> stages(const Plan& plan) const {
        std::vector<const UnitStage*> result;
        for (std::size_t i = 0; i < plan.size(); ++i)
            if (const UnitStage* stage = paths_->paths[i].nearest(plan[i], layers_.sizes[i])) result.push_back(stage);
        return result;
    }

    /// Some units less in one layer, as many more in another.
    std::optional<Plan> withMove(const Plan& plan, std::int64_t step, Random& random) const {
        const std::uint64_t count = plan.size();
        const auto less = static_cast<std::size_t>(random.below(count));
        const std::size_t more = (less + 1 + static_cast<std::size_t>(random.below(count - 1))) % count;
        const std::int64_t distance = std::max(layers_.sizes[less], layers_.sizes[more]) / 16;
        const std::int64_t moved = std::max(step, distance / step * step);
        Plan next = plan;
        next[less] -= moved;
        next[more] += moved;
        if (layers_.costs[less].empty() || next[less] < 1 || next[more] > layers_.sizes[more]) return std::nullopt;
        return next;
    }

    const ir::Model& model_;
    std::vector<std::string> outputs_;
    data::Split samples_;
    const pipeline::PassContext& context_;
    std::optional<RemovalPaths> paths_;
    Layers layers_;
};

}  // namespace

std::vector<UnitTask> plannedTasks(const ir::Model& model, const TransformerView& view,
                                   const std::vector<UnitLayers>& groups, const Selection& selection,
                                   const data::Split& samples, const pipeline::PassContext& context,
                                   std::shared_ptr<const OutputCurvature> curvature) {
    std::vector<UnitTask> tasks;
    Plan even;
    std::int64_t units = 0;
    Selection all = selection;
    all.scope = Scope::layer;
    for (const UnitLayers& group : groups) {
        const std::int64_t size = view.axes->store->leafSize(group.leaf);
        units += size;
        even.push_back(keptUnits(size, all));
        tasks.push_back({group, even.back(), {}, curvature});
    }
    if (selection.scope == Scope::layer || tasks.size() < 2) return tasks;
    // With scope global a count is of all units together.
    all.multiple = 1;
    if (selection.scope == Scope::automatic && all.count >= 0) all.count *= std::ssize(tasks);
    const std::int64_t count = units - keptUnits(units, all);
    // So many at once that widths stay multiples.
    const std::int64_t step = std::max<std::int64_t>(1, selection.multiple);
    const Planner planner(model, view, tasks, samples, context);
    const Layers& layers = planner.layers();
    // What cannot be compensated is whole in every plan: without stages its loss would look free.
    for (std::size_t i = 0; i < even.size(); ++i)
        if (layers.costs[i].empty()) even[i] = layers.sizes[i];
    Plan chosen = sharedOut(layers, count, step, 1);
    if (selection.scope == Scope::automatic) {
        const double share = static_cast<double>(count) / static_cast<double>(units);
        std::vector<Plan> plans = {sharedOut(layers, count, step, share + (1 - share) / 4),
                                   sharedOut(layers, count, step, share + (1 - share) / 2), chosen};
        // Where layers may not give enough, or the share is less than one unit of each, there is no plan.
        const auto gone = [&](const Plan& plan) { return units - std::accumulate(plan.begin(), plan.end(), std::int64_t{0}); };
        std::erase_if(plans, [&](const Plan& plan) { return gone(plan) < gone(chosen); });
        // Rounding each layer's width costs the even plan a little.
        if (gone(even) + step * std::ssize(tasks) > count && 10 * gone(even) >= 9 * gone(chosen)) plans.push_back(even);
        chosen = planner.bestOf(plans, step);
    }
    for (std::size_t i = 0; i < tasks.size(); ++i) tasks[i].keep = chosen[i];
    return tasks;
}

}  // namespace tcompress::passes
