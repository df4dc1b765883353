#include "passes/support/compensation.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "passes/support/evidence.h"
#include "passes/support/layerwise.h"

namespace tcompress::passes {
namespace {

using analysis::Site;
using analysis::TransformerView;

std::string noteOf(const TargetWeight& weight, const Refitted& fitted) {
    return fitted.choice
               ? fmt::format("'{}' fitted again: {}", weight.name(), describe(*fitted.choice))
               : fmt::format("'{}' stays as it was: fitted again it would be no better on held-back rows",
                             weight.name());
}

/// The reader's weights with those of removed units zero, the others fitted again.
Refitted fitAgain(const UnitReader& reader, const std::vector<bool>& mask, pipeline::PassReport& report) {
    const std::vector<std::int64_t> inputs = reader.inputsThatStay(mask);
    Refitted fit = refitWhereBetter(keepInputs(*reader.evidence, inputs),
                                    keepInputs(reader.start, reader.outputs, inputs), reader.bias);
    report.notes.push_back(noteOf(*reader.weight, fit));
    fit.layer = spread(fit.layer, inputs, reader.inputs);
    return fit;
}

/// The units that go at the least cost.
std::vector<bool> cheapestMask(const std::vector<UnitReader>& readers, std::int64_t keep) {
    std::vector<RemovalProblem> problems;
    for (const UnitReader& reader : readers)
        problems.push_back(removalProblem(reader, reader.evidence->all(),
                                          chooseRefit(*reader.evidence, reader.start, reader.bias)));
    std::vector<bool> mask(readers.front().groups.size(), true);
    const std::size_t count = mask.size() - static_cast<std::size_t>(keep);
    for (const std::size_t unit : removalOrder(std::move(problems), count).groups) mask[unit] = false;
    return mask;
}

/// `model` is the edited one.
void compensate(ir::Model& model, EvidenceWalk& walk, UnitTask& task, std::vector<UnitReader> readers,
                pipeline::PassReport& report) {
    gatherEvidence(walk, readers);
    if (task.mask.empty()) task.mask = cheapestMask(readers, task.keep);
    ir::Edit edit(model, "compensation");
    double before = 0, after = 0, whole = 0;
    for (const UnitReader& reader : readers) {
        const Refitted fit = fitAgain(reader, task.mask, report);
        before += fit.before;
        after += fit.after;
        whole += fit.whole;
        writeLayer(edit, *reader.weight, reader.start, fit.layer);
    }
    edit.commit();
    task.errorBefore = whole > 0 ? std::sqrt(std::max(0.0, before) / whole) : 0.0;
    task.errorAfter = whole > 0 ? std::sqrt(std::max(0.0, after) / whole) : 0.0;
}

}  // namespace

std::vector<UnitTask> tasksOf(const std::vector<UnitLayers>& groups, const analysis::KeepMasks& masks) {
    std::vector<UnitTask> tasks;
    for (const UnitLayers& group : groups)
        if (const auto mask = masks.find(group.leaf); mask != masks.end())
            tasks.push_back({group, std::count(mask->second.begin(), mask->second.end(), true), mask->second, nullptr});
    return tasks;
}

namespace {

/// The units that matter least without compensation; an empty mask when they cannot be scored.
std::vector<bool> scoredMask(const ir::Model& model, const TransformerView& view, const UnitTask& task,
                             const DataScore& byData, const data::Split& samples, const calibration::Environment& environment,
                             pipeline::PassReport& report) {
    std::vector<UnitLayers> group = {task.layers};
    const auto scored = scoreUnits(model, view, group, &byData, &samples.fit, environment, report);
    if (scored.empty()) return {};
    const auto units = static_cast<std::int64_t>(scored.front().scores.size());
    return selectUnits(scored, {units - task.keep, 0.0, Scope::layer, /*multiple=*/1}).front();
}

/// Steps that fit again the linear layers behind a node that read the residual stream, each to what it gives in the
/// reference; `taken` are left.
std::vector<WalkStep> refitSteps(ir::Model& model, const ir::Model& reference, const TransformerView& view,
                                 const std::vector<TargetWeight>& weights, std::size_t behind,
                                 const std::set<const Site*>& taken, pipeline::PassReport& report) {
    std::vector<const TargetWeight*> others;
    for (const TargetWeight& weight : weights) {
        const auto isFree = [&](const Site* site) {
            return site->node->position() > behind && !taken.contains(site) && residualAddOf(view, *site) == nullptr;
        };
        const std::vector<EvidenceQuery> queries = queriesOf(weight, view);
        if (std::all_of(weight.sites.begin(), weight.sites.end(), isFree) && !weight.hasEmbedding() &&
            refitRefusal(weight).empty() &&
            std::all_of(queries.begin(), queries.end(),
                        [&](const EvidenceQuery& query) { return hasTarget(reference, query); }))
            others.push_back(&weight);
    }
    return layerSteps(model, view, others, [&report](const LayerProblem& problem) {
        const Refitted fitted = refitWhereBetter(problem.evidence, problem.start, problem.bias);
        report.notes.push_back(noteOf(*problem.weight, fitted));
        return fitted.layer;
    });
}

}  // namespace

void removeCompensated(ir::Model& model, const ir::Model& reference, const TransformerView& view,
                       std::vector<UnitTask>& tasks, const DataScore& fallback, const data::Split& samples,
                       const calibration::Environment& environment, pipeline::PassReport& report, Refit refit,
                       std::vector<WalkStep> more) {
    const UnitWeights weights(view);
    std::vector<WalkStep> steps = std::move(more);
    for (UnitTask& task : tasks) {
        if (const std::int64_t units = view.axes->store->leafSize(task.layers.leaf); task.keep == units) {
            task.mask.assign(static_cast<std::size_t>(units), true);
            continue;
        }
        const std::vector<UnitReader> readers = weights.readersOf(task);
        if (!task.refusal.empty()) {
            report.notes.push_back(
                fmt::format("'{}' is not compensated: {}", task.layers.layers.front().name, task.refusal));
            if (task.mask.empty())
                task.mask = scoredMask(model, view, task, fallback, samples, environment, report);
            continue;
        }
        steps.push_back(stepOf(readers, [&model, &report, &task, readers](EvidenceWalk& walk) {
            compensate(model, walk, task, readers, report);
        }));
    }
    if (refit == Refit::all && !steps.empty()) {
        std::size_t first = std::numeric_limits<std::size_t>::max();
        std::set<const Site*> taken;
        for (const WalkStep& step : steps) {
            first = std::min(first, step.position);
            taken.insert(step.sites.begin(), step.sites.end());
        }
        for (WalkStep& step : refitSteps(model, reference, view, weights.all(), first, taken, report))
            steps.push_back(std::move(step));
    }
    EvidenceWalk walk(reference, model, view, samples, environment);
    walkInOrder(walk, std::move(steps));
    std::erase_if(tasks, [](const UnitTask& task) { return task.mask.empty(); });
}

ir::Model referenceFor(const ir::Model& model, const TransformerView& view, const std::vector<UnitLayers>& groups,
                       const data::Dataset& samples, const pipeline::PassContext& context) {
    std::vector<EvidenceQuery> queries;
    for (const UnitLayers& group : groups)
        for (const UnitLayer& layer : group.layers)
            for (const std::size_t site : layer.consumers)
                queries.push_back(evidenceQuery(view.sites[site], layer.residualAdd));
    return referenceFor(model, queries, samples, context);
}

void refitBehind(ir::Model& model, const ir::Model& reference, const TransformerView& view, std::size_t position,
                 const data::Split& samples, const calibration::Environment& environment, pipeline::PassReport& report) {
    pipeline::PassReport unusable;
    const std::vector<TargetWeight> weights = targetWeights(view, {}, unusable);
    std::vector<WalkStep> steps = refitSteps(model, reference, view, weights, position, {}, report);
    EvidenceWalk walk(reference, model, view, samples, environment);
    walkInOrder(walk, std::move(steps));
}

analysis::KeepMasks keepMasks(const std::vector<UnitTask>& tasks, const std::string& idleReason,
                              pipeline::PassReport& report) {
    std::vector<UnitLayers> groups;
    std::vector<std::vector<bool>> masks;
    for (const UnitTask& task : tasks) {
        groups.push_back(task.layers);
        masks.push_back(task.mask);
    }
    return keepMasks(groups, masks, idleReason, report);
}

CompensationText compensationText(const std::vector<UnitTask>& tasks, analysis::AtomId leaf) {
    for (const UnitTask& task : tasks)
        if (task.layers.leaf == leaf && task.refusal.empty())
            return {fmt::format("; output error {:.3f}, {:.3f} with the weights fitted again", task.errorBefore,
                                task.errorAfter),
                    task.errorAfter};
    return {};
}

}  // namespace tcompress::passes
