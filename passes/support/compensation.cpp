#include "passes/support/compensation.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <set>

#include "lib/support/check.h"
#include "passes/support/evidence.h"
#include "passes/support/layerwise.h"
#include "passes/support/obs.h"

namespace tcompress::passes {
namespace {

using analysis::Site;
using analysis::TransformerView;

/// A weight that reads units, with all it takes to fit it again.
struct Reader {
    const TargetWeight* weight = nullptr;
    std::vector<EvidenceQuery> queries;             ///< one a site that shares the weight
    std::vector<std::vector<std::int64_t>> groups;  ///< inputs of each unit
    LinearLayer start;
    BiasFit bias = BiasFit::kept;
    std::optional<Evidence> evidence;

    std::int64_t inputs() const { return evidence->fit.inputs; }
    std::int64_t outputs() const { return evidence->fit.outputs; }

    std::vector<std::int64_t> inputsThatStay(const std::vector<bool>& mask) const {
        std::vector<bool> stays(static_cast<std::size_t>(inputs()), true);
        for (std::size_t unit = 0; unit < groups.size(); ++unit)
            for (const std::int64_t input : groups[unit]) stays[static_cast<std::size_t>(input)] = mask[unit];
        std::vector<std::int64_t> result;
        for (std::int64_t i = 0; i < inputs(); ++i)
            if (stays[static_cast<std::size_t>(i)]) result.push_back(i);
        return result;
    }
};

/// A layer on some of the inputs as one on all, the others' weights zero.
LinearLayer spread(const LinearLayer& layer, const std::vector<std::int64_t>& inputs, std::int64_t all) {
    const auto outputs = static_cast<std::int64_t>(layer.bias.size());
    LinearLayer result{std::vector<double>(static_cast<std::size_t>(all * outputs)), layer.bias};
    for (std::size_t i = 0; i < inputs.size(); ++i)
        std::copy_n(layer.weight.begin() + static_cast<std::int64_t>(i) * outputs, outputs,
                    result.weight.begin() + inputs[i] * outputs);
    return result;
}

/// A layer fitted again where that is better on held-back rows, and its squared errors there.
struct Refitted {
    LinearLayer layer;
    double errorBefore = 0, errorAfter = 0;
    std::optional<RefitChoice> choice;  ///< nothing: it stays as it was
};
Refitted refitWhereBetter(const Evidence& evidence, const LinearLayer& start, BiasFit bias) {
    Refitted result;
    result.errorBefore = squaredError(evidence.held, start, 1);
    const RefitChoice choice = chooseRefit(evidence, start, bias);
    result.errorAfter = choice.heldError * evidence.held.yy;
    // The sums' products are of float32: below this the errors are rounding.
    const double noise = 1e-6 * evidence.held.yy;
    if (result.errorAfter < result.errorBefore && result.errorBefore > noise) {
        result.layer = refit(evidence.all(), start, choice);
        result.choice = choice;
    } else {
        result.layer = start;
        result.errorAfter = result.errorBefore;
    }
    return result;
}

std::string noteOf(const TargetWeight& weight, const Refitted& fitted) {
    return fitted.choice
               ? fmt::format("'{}' fitted again: {}", weight.name(), describe(*fitted.choice))
               : fmt::format("'{}' stays as it was: fitted again it would be no better on held-back rows",
                             weight.name());
}

class Compensator {
  public:
    Compensator(const TransformerView& view, pipeline::PassReport& report)
        : view_(view), report_(report), weights_(targetWeights(view, {}, unusable_)) {}

    const std::vector<TargetWeight>& weights() const { return weights_; }

    /// The weights that read the task's units; none, and a refusal, when they cannot be fitted again.
    std::vector<Reader> readersOf(UnitTask& task) const {
        std::vector<Reader> readers;
        const std::int64_t units = view_.axes->store->leafSize(task.layers.leaf);
        for (const UnitLayer& layer : task.layers.layers)
            for (const std::size_t index : layer.consumers) {
                const Site& site = view_.sites[index];
                const TargetWeight* weight = weightOf(site, task.refusal);
                if (weight == nullptr) return {};
                auto reader = std::find_if(readers.begin(), readers.end(),
                                           [&](const Reader& other) { return other.weight == weight; });
                if (reader == readers.end()) {
                    readers.emplace_back();
                    reader = std::prev(readers.end());
                    reader->weight = weight;
                    reader->groups.resize(static_cast<std::size_t>(units));
                    const auto positions = leafPositions(
                        *view_.axes->store, view_.axes->axes.at(site.weight).at(site.inAxis), task.layers.leaf);
                    for (std::size_t i = 0; i < positions.size(); ++i)
                        if (positions[i] >= 0)
                            reader->groups[static_cast<std::size_t>(positions[i])].push_back(
                                static_cast<std::int64_t>(i));
                    reader->bias = biasFit(site);
                }
                reader->queries.push_back(evidenceQuery(site, layer.residualAdd));
            }
        for (const Reader& reader : readers)
            if (reader.queries.size() != reader.weight->sites.size())
                task.refusal = fmt::format("'{}' shares its weights with a layer of another kind",
                                           reader.weight->name());
        if (readers.empty()) task.refusal = "nothing was found that reads its units";
        return readers;
    }

    /// `model` is the edited one.
    void run(ir::Model& model, EvidenceWalk& walk, UnitTask& task, std::vector<Reader> readers) {
        gather(walk, readers);
        apply(model, task, readers);
    }

    /// The same with evidence at hand.
    void apply(ir::Model& model, UnitTask& task, const std::vector<Reader>& readers) {
        if (task.mask.empty()) task.mask = choose(readers, task);
        if (std::find(task.mask.begin(), task.mask.end(), false) == task.mask.end()) return;
        ir::Edit edit(model, "compensation");
        double before = 0, after = 0, whole = 0;
        for (const Reader& reader : readers) {
            const Refitted fit = fitAgain(reader, task.mask);
            before += fit.errorBefore;
            after += fit.errorAfter;
            whole += reader.evidence->held.yy;
            writeLayer(edit, *reader.weight, reader.start, fit.layer);
        }
        edit.commit();
        task.errorBefore = whole > 0 ? std::sqrt(std::max(0.0, before) / whole) : 0.0;
        task.errorAfter = whole > 0 ? std::sqrt(std::max(0.0, after) / whole) : 0.0;
    }

    /// What removing 1, 2, … units costs, all but one, relative to the output.
    static std::vector<double> costs(const std::vector<Reader>& readers) {
        double whole = 0;
        for (const Reader& reader : readers) whole += reader.evidence->fit.yy + reader.evidence->held.yy;
        std::vector<double> errors = order(readers, readers.front().groups.size() - 1).error;
        for (double& error : errors) error /= std::max(whole, 1e-300);
        return errors;
    }

    static void gather(EvidenceWalk& walk, std::vector<Reader>& readers) {
        std::vector<EvidenceQuery> queries;
        for (const Reader& reader : readers)
            queries.insert(queries.end(), reader.queries.begin(), reader.queries.end());
        for (Reader& reader : readers) reader.start = readLayer(*reader.weight->sites.front());
        std::vector<Evidence> evidence = walk.collect(queries);
        std::size_t next = 0;
        for (Reader& reader : readers)
            for (std::size_t i = 0; i < reader.queries.size(); ++i, ++next) {
                if (!reader.evidence) {
                    reader.evidence = std::move(evidence[next]);
                    continue;
                }
                reader.evidence->fit += evidence[next].fit;
                reader.evidence->held += evidence[next].held;
            }
    }

    static RemovalPath path(EvidenceWalk& walk, std::vector<Reader> readers, const std::vector<std::int64_t>& keeps) {
        gather(walk, readers);
        const std::size_t units = readers.front().groups.size();
        std::vector<RefitChoice> choices;
        std::vector<RemovalProblem> problems;
        std::vector<LayerSums> sums;
        double whole = 0;
        for (const Reader& reader : readers) {
            choices.push_back(chooseRefit(*reader.evidence, reader.start, reader.bias));
            sums.push_back(reader.evidence->all());
            problems.push_back(problemOf(reader, sums.back(), choices.back()));
            whole += sums.back().yy;
        }
        const RemovalOrder order = removalOrder(std::move(problems), units - 1);
        RemovalPath path{order.error, {}};
        for (double& error : path.errors) error /= std::max(whole, 1e-300);
        for (const std::int64_t keep : keeps) {
            std::vector<bool> mask(units, true);
            for (std::size_t i = 0; i < units - static_cast<std::size_t>(keep); ++i) mask[order.groups[i]] = false;
            UnitStage stage{keep, {}};
            for (std::size_t r = 0; r < readers.size(); ++r) {
                std::vector<std::int64_t> inputs = readers[r].inputsThatStay(mask);
                LinearLayer layer = refit(keepInputs(sums[r], inputs),
                                          keepInputs(readers[r].start, readers[r].outputs(), inputs), choices[r]);
                stage.readers.push_back({readers[r].weight->constant->name(), std::move(inputs), std::move(layer)});
            }
            path.stages.push_back(std::move(stage));
        }
        return path;
    }

  private:
    const TargetWeight* weightOf(const Site& site, std::string& refusal) const {
        for (const TargetWeight& weight : weights_)
            if (std::find(weight.sites.begin(), weight.sites.end(), &site) != weight.sites.end()) {
                refusal = refitRefusal(weight);
                return refusal.empty() ? &weight : nullptr;
            }
        for (const pipeline::SkippedSite& skipped : unusable_.skipped)
            if (skipped.site == site.name) refusal = skipped.reason;
        if (refusal.empty()) refusal = "its weights cannot be fitted again";
        return nullptr;
    }

    static RemovalProblem problemOf(const Reader& reader, const LayerSums& all, const RefitChoice& choice) {
        return {hessian(all, choice), refit(all, reader.start, choice).weight, reader.outputs(), reader.groups};
    }

    /// The order in which `count` units go at the least cost.
    static RemovalOrder order(const std::vector<Reader>& readers, std::size_t count) {
        std::vector<RemovalProblem> problems;
        for (const Reader& reader : readers)
            problems.push_back(problemOf(reader, reader.evidence->all(),
                                         chooseRefit(*reader.evidence, reader.start, reader.bias)));
        return removalOrder(std::move(problems), count);
    }

    static std::vector<bool> choose(const std::vector<Reader>& readers, const UnitTask& task) {
        std::vector<bool> mask(readers.front().groups.size(), true);
        for (const std::size_t unit : order(readers, mask.size() - static_cast<std::size_t>(task.keep)).groups)
            mask[unit] = false;
        return mask;
    }

    /// The reader's weights with those of removed units zero, the others fitted again.
    Refitted fitAgain(const Reader& reader, const std::vector<bool>& mask) {
        const std::vector<std::int64_t> inputs = reader.inputsThatStay(mask);
        Refitted fit = refitWhereBetter(keepInputs(*reader.evidence, inputs),
                                        keepInputs(reader.start, reader.outputs(), inputs), reader.bias);
        report_.notes.push_back(noteOf(*reader.weight, fit));
        fit.layer = spread(fit.layer, inputs, reader.inputs());
        return fit;
    }

    const TransformerView& view_;
    pipeline::PassReport& report_;
    pipeline::PassReport unusable_;
    std::vector<TargetWeight> weights_;
};

/// The step of a task's readers, at the place of the first of them.
WalkStep stepOf(const std::vector<Reader>& readers, std::function<void(EvidenceWalk&)> run) {
    WalkStep step{{}, std::numeric_limits<std::size_t>::max(), std::move(run)};
    for (const Reader& reader : readers)
        for (const Site* site : reader.weight->sites) {
            step.sites.push_back(site);
            step.position = std::min(step.position, site->node->position());
        }
    return step;
}

/// What removing 1, 2, … units of one layer costs in the outputs' error: the layer's own costs, scaled so that half of
/// the units cost what the model's outputs lose without them.
std::vector<double> trialCosts(const ir::Model& model, const TransformerView& view, UnitTask trial,
                               std::vector<Reader> readers, EvidenceWalk& walk, const data::Split& samples,
                               Progress& progress) {
    Compensator::gather(walk, readers);
    std::vector<double> costs = Compensator::costs(readers);
    const std::int64_t units = view.axes->store->leafSize(trial.layers.leaf);
    const std::int64_t gone = std::max<std::int64_t>(1, units / 2);
    trial.keep = units - gone;
    // A copy of the graph has the same sites and leaves.
    ir::Model without = model.clone();
    const TransformerView itsView = analysis::recognise(without);
    pipeline::PassReport unused;
    Compensator compensator(itsView, unused);
    std::vector<Reader> itsReaders = compensator.readersOf(trial);
    for (std::size_t i = 0; i < readers.size(); ++i) {
        itsReaders[i].start = readers[i].start;
        itsReaders[i].evidence = std::move(readers[i].evidence);
    }
    compensator.apply(without, trial, itsReaders);
    const data::Dataset& judges = samples.heldBack.sampleCount() > 0 ? samples.heldBack : samples.fit;
    const double lost = outputDifference(model, without, judges, progress);
    const double own = costs[static_cast<std::size_t>(gone - 1)];
    for (double& cost : costs) cost *= own > 0 ? lost / own : 0;
    return costs;
}

std::vector<std::vector<double>> trialCosts(const ir::Model& model, const TransformerView& view,
                                            const std::vector<UnitTask>& tasks, const data::Split& samples,
                                            Progress& progress) {
    std::vector<std::vector<double>> costs(tasks.size());
    std::vector<WalkStep> steps;
    pipeline::PassReport unused;
    const Compensator compensator(view, unused);
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        UnitTask trial = tasks[i];
        const std::vector<Reader> readers = compensator.readersOf(trial);
        if (!trial.refusal.empty()) continue;
        steps.push_back(stepOf(readers, [&, i, trial, readers](EvidenceWalk& walk) {
            costs[i] = trialCosts(model, view, trial, readers, walk, samples, progress);
        }));
    }
    EvidenceWalk walk(model, model, view, samples, progress);
    walkInOrder(walk, std::move(steps));
    return costs;
}

/// Takes `count` units from the tasks, `step` at once, each time where it costs least; no layer loses more than the
/// share `most` of its units.
std::vector<UnitTask> sharedOut(std::vector<UnitTask> tasks, const std::vector<std::int64_t>& sizes,
                                const std::vector<std::vector<double>>& costs, std::int64_t count, std::int64_t step,
                                double most) {
    for (std::size_t i = 0; i < tasks.size(); ++i) tasks[i].keep = sizes[i];
    for (; count >= step; count -= step) {
        std::optional<std::size_t> cheapest;
        double least = 0;
        for (std::size_t i = 0; i < tasks.size(); ++i) {
            const std::int64_t gone = sizes[i] - tasks[i].keep;
            const auto limit = static_cast<std::int64_t>(most * static_cast<double>(sizes[i]) + 1e-9);
            if (gone + step > std::min(std::ssize(costs[i]), limit)) continue;
            const double more = costs[i][static_cast<std::size_t>(gone + step - 1)] -
                                (gone == 0 ? 0.0 : costs[i][static_cast<std::size_t>(gone - 1)]);
            if (cheapest && more >= least) continue;
            cheapest = i;
            least = more;
        }
        if (!cheapest) break;
        tasks[*cheapest].keep -= step;
    }
    return tasks;
}

/// What the outputs miss when a plan is carried out, on a few samples and without refits of other layers.
double trialError(const ir::Model& model, std::vector<UnitTask> tasks, const data::Split& samples,
                  Progress& progress) {
    ir::Model trial = model.clone();
    const TransformerView view = analysis::recognise(trial);
    pipeline::PassReport unused;
    constexpr std::int64_t kEnough = 256;
    const data::Split few{samples.fit.head(std::min(kEnough, samples.fit.sampleCount())), samples.heldBack};
    removeCompensated(trial, model, view, tasks, {calibration::MomentOrder::first, activationTimesWeight}, few,
                      progress, unused);
    return outputDifference(model, trial, samples.heldBack.sampleCount() > 0 ? samples.heldBack : few.fit, progress);
}

}  // namespace

std::vector<UnitTask> plannedTasks(const ir::Model& model, const TransformerView& view,
                                   const std::vector<UnitLayers>& groups, const Selection& selection,
                                   const data::Split& samples, Progress& progress) {
    std::vector<UnitTask> tasks;
    std::vector<std::int64_t> sizes;
    for (const UnitLayers& group : groups) {
        sizes.push_back(view.axes->store->leafSize(group.leaf));
        Selection each = selection;
        each.scope = Scope::layer;
        tasks.push_back({group, keptUnits(sizes.back(), each), {}, {}});
    }
    if (selection.scope == Scope::layer || tasks.size() < 2) return tasks;
    const std::int64_t units = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
    // With scope global a count is of all units together.
    Selection all = selection;
    all.scope = Scope::layer;
    all.multiple = 1;
    if (selection.scope == Scope::automatic && all.count >= 0) all.count *= std::ssize(tasks);
    const std::int64_t count = units - keptUnits(units, all);
    // So many at once that widths stay multiples.
    const std::int64_t step = std::max<std::int64_t>(1, selection.multiple);
    const std::vector<std::vector<double>> costs = trialCosts(model, view, tasks, samples, progress);
    const std::vector<UnitTask> global = sharedOut(tasks, sizes, costs, count, step, 1);
    if (selection.scope == Scope::global) return global;
    const double share = static_cast<double>(count) / static_cast<double>(units);
    std::vector<std::vector<UnitTask>> plans = {sharedOut(tasks, sizes, costs, count, step, (1 + share) / 2), global};
    // A share of less than one unit of each layer is no plan.
    std::int64_t evenly = units;
    for (const UnitTask& task : tasks) evenly -= task.keep;
    if (evenly + step * std::ssize(tasks) > count) plans.push_back(tasks);
    std::vector<double> errors;
    for (const auto& plan : plans) errors.push_back(trialError(model, plan, samples, progress));
    return plans[static_cast<std::size_t>(std::min_element(errors.begin(), errors.end()) - errors.begin())];
}

std::vector<UnitTask> tasksOf(const std::vector<UnitLayers>& groups, const analysis::KeepMasks& masks) {
    std::vector<UnitTask> tasks;
    for (const UnitLayers& group : groups)
        if (const auto mask = masks.find(group.leaf); mask != masks.end())
            tasks.push_back({group, std::count(mask->second.begin(), mask->second.end(), true), mask->second, {}});
    return tasks;
}

namespace {

/// The units that matter least without compensation; an empty mask when they cannot be scored.
std::vector<bool> scoredMask(const ir::Model& model, const TransformerView& view, const UnitTask& task,
                             const DataScore& byData, const data::Split& samples, Progress& progress,
                             pipeline::PassReport& report) {
    std::vector<UnitLayers> group = {task.layers};
    const auto scored = scoreUnits(model, view, group, &byData, &samples.fit, progress, report);
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
                       Progress& progress, pipeline::PassReport& report, Refit refit) {
    Compensator compensator(view, report);
    std::vector<WalkStep> steps;
    for (UnitTask& task : tasks) {
        const std::vector<Reader> readers = compensator.readersOf(task);
        if (!task.refusal.empty()) {
            report.notes.push_back(
                fmt::format("'{}' is not compensated: {}", task.layers.layers.front().name, task.refusal));
            if (task.mask.empty())
                task.mask = scoredMask(model, view, task, fallback, samples, progress, report);
            continue;
        }
        steps.push_back(stepOf(readers, [&model, &compensator, &task, readers](EvidenceWalk& walk) {
            compensator.run(model, walk, task, readers);
        }));
    }
    if (refit == Refit::all && !steps.empty()) {
        std::size_t first = std::numeric_limits<std::size_t>::max();
        std::set<const Site*> taken;
        for (const WalkStep& step : steps) {
            first = std::min(first, step.position);
            taken.insert(step.sites.begin(), step.sites.end());
        }
        for (WalkStep& step : refitSteps(model, reference, view, compensator.weights(), first, taken, report))
            steps.push_back(std::move(step));
    }
    EvidenceWalk walk(reference, model, view, samples, progress);
    walkInOrder(walk, std::move(steps));
    std::erase_if(tasks, [](const UnitTask& task) { return task.mask.empty(); });
}

std::vector<RemovalPath> removalPaths(const ir::Model& model, const TransformerView& view,
                                      std::vector<UnitTask>& tasks, const std::vector<std::vector<std::int64_t>>& keeps,
                                      const data::Split& samples, Progress& progress) {
    pipeline::PassReport unused;
    const Compensator compensator(view, unused);
    std::vector<RemovalPath> paths(tasks.size());
    std::vector<WalkStep> steps;
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        const std::vector<Reader> readers = compensator.readersOf(tasks[i]);
        if (!tasks[i].refusal.empty()) continue;
        steps.push_back(stepOf(readers, [&, i, readers](EvidenceWalk& walk) {
            paths[i] = Compensator::path(walk, readers, keeps[i]);
        }));
    }
    EvidenceWalk walk(model, model, view, samples, progress);
    walkInOrder(walk, std::move(steps));
    return paths;
}

void writeStages(ir::Model& model, const TransformerView& view, const std::vector<const UnitStage*>& stages) {
    pipeline::PassReport unused;
    const std::vector<TargetWeight> weights = targetWeights(view, {}, unused);
    ir::Edit edit(model, "compensation");
    for (const UnitStage* stage : stages)
        for (const UnitStage::Reader& reader : stage->readers) {
            const auto weight = std::find_if(weights.begin(), weights.end(), [&](const TargetWeight& other) {
                return other.constant->name() == reader.weight;
            });
            TCOMPRESS_CHECK(weight != weights.end(), "a stage of another model");
            const LinearLayer before = readLayer(*weight->sites.front());
            const auto all = static_cast<std::int64_t>(before.weight.size() / before.bias.size());
            writeLayer(edit, *weight, before, spread(reader.layer, reader.inputs, all));
        }
    edit.commit();
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
                 const data::Split& samples, Progress& progress, pipeline::PassReport& report) {
    pipeline::PassReport unusable;
    const std::vector<TargetWeight> weights = targetWeights(view, {}, unusable);
    std::vector<WalkStep> steps = refitSteps(model, reference, view, weights, position, {}, report);
    EvidenceWalk walk(reference, model, view, samples, progress);
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
