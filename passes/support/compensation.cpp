#include "passes/support/compensation.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>

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

class Compensator {
  public:
    Compensator(const ir::Model& edited, const ir::Model& reference, const TransformerView& view,
                const data::Split& samples, Progress& progress, pipeline::PassReport& report)
        : edited_(edited),
          reference_(reference),
          view_(view),
          samples_(samples),
          progress_(progress),
          report_(report),
          weights_(targetWeights(view, {}, unusable_)) {}

    /// `model` is the edited one.
    void run(ir::Model& model, UnitTask& task) {
        std::vector<Reader> readers = readersOf(task);
        if (!task.refusal.empty()) return;
        gather(readers);
        if (task.mask.empty()) task.mask = choose(readers, task);
        if (std::find(task.mask.begin(), task.mask.end(), false) == task.mask.end()) return;
        ir::Edit edit(model, "compensation");
        double before = 0, after = 0, whole = 0;
        for (const Reader& reader : readers) {
            const Fit fit = fitAgain(reader, task.mask);
            before += fit.errorBefore;
            after += fit.errorAfter;
            whole += reader.evidence->held.yy;
            writeLayer(edit, *reader.weight, reader.start, fit.layer);
        }
        edit.commit();
        task.errorBefore = whole > 0 ? std::sqrt(std::max(0.0, before) / whole) : 0.0;
        task.errorAfter = whole > 0 ? std::sqrt(std::max(0.0, after) / whole) : 0.0;
    }

    /// What removing 1, 2, … units costs, all but one, relative to the output; empty when the task is refused.
    std::vector<double> costs(UnitTask& task) const {
        std::vector<Reader> readers = readersOf(task);
        if (!task.refusal.empty()) return {};
        gather(readers);
        double whole = 0;
        for (const Reader& reader : readers) whole += reader.evidence->fit.yy + reader.evidence->held.yy;
        std::vector<double> errors = order(readers, readers.front().groups.size() - 1).error;
        for (double& error : errors) error /= std::max(whole, 1e-300);
        return errors;
    }

    RemovalPath path(UnitTask& task, const std::vector<std::int64_t>& keeps) const {
        std::vector<Reader> readers = readersOf(task);
        if (!task.refusal.empty()) return {};
        gather(readers);
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
                    reader->start = readLayer(site);
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

    void gather(std::vector<Reader>& readers) const {
        std::vector<EvidenceQuery> queries;
        for (const Reader& reader : readers)
            queries.insert(queries.end(), reader.queries.begin(), reader.queries.end());
        std::vector<Evidence> evidence = collectEvidence(reference_, edited_, queries, samples_, progress_);
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

    struct Fit {
        LinearLayer layer;
        double errorBefore = 0, errorAfter = 0;
    };
    /// The reader's weights with those of removed units zero, or fitted again when that is better on held-back
    /// rows.
    Fit fitAgain(const Reader& reader, const std::vector<bool>& mask) {
        const std::vector<std::int64_t> inputs = reader.inputsThatStay(mask);
        const Evidence evidence = keepInputs(*reader.evidence, inputs);
        LinearLayer left = keepInputs(reader.start, reader.outputs(), inputs);
        Fit fit;
        fit.errorBefore = squaredError(evidence.held, left, 1);
        const RefitChoice choice = chooseRefit(evidence, left, reader.bias);
        fit.errorAfter = choice.heldError * evidence.held.yy;
        // The sums' products are of float32: below this the errors are rounding.
        const double noise = 1e-6 * evidence.held.yy;
        if (fit.errorAfter < fit.errorBefore && fit.errorBefore > noise) {
            left = refit(evidence.all(), left, choice);
            report_.notes.push_back(
                fmt::format("'{}' fitted again: {}", reader.weight->name(), describe(choice)));
        } else {
            fit.errorAfter = fit.errorBefore;
            report_.notes.push_back(fmt::format(
                "'{}' stays as it was: fitted again it would be no better on held-back rows", reader.weight->name()));
        }
        fit.layer = spread(left, inputs, reader.inputs());
        return fit;
    }

    const ir::Model& edited_;
    const ir::Model& reference_;
    const TransformerView& view_;
    const data::Split& samples_;
    Progress& progress_;
    pipeline::PassReport& report_;
    pipeline::PassReport unusable_;
    std::vector<TargetWeight> weights_;
};

/// Where the first reader of a task's units stands in the graph.
std::size_t position(const TransformerView& view, const UnitTask& task) {
    std::size_t first = view.sites.size();
    for (const UnitLayer& layer : task.layers.layers)
        for (const std::size_t site : layer.consumers) first = std::min(first, site);
    return first;
}

}  // namespace

std::vector<UnitTask> plannedTasks(const ir::Model& model, const TransformerView& view,
                                   const std::vector<UnitLayers>& groups, const Selection& selection,
                                   const data::Split& samples, Progress& progress) {
    std::vector<UnitTask> tasks;
    std::int64_t units = 0;
    for (const UnitLayers& group : groups) {
        const std::int64_t size = view.axes->store->leafSize(group.leaf);
        tasks.push_back({group, keptUnits(size, selection), {}, {}});
        units += size;
    }
    if (selection.scope == Scope::layer) return tasks;
    pipeline::PassReport unused;
    std::vector<std::vector<double>> costs;
    for (UnitTask& task : tasks) {
        UnitTask trial = task;
        costs.push_back(Compensator(model, model, view, samples, progress, unused).costs(trial));
        task.keep = view.axes->store->leafSize(task.layers.leaf);
    }
    Selection all = selection;
    all.scope = Scope::layer;
    all.multiple = 1;
    for (std::int64_t left = units - keptUnits(units, all); left > 0; --left) {
        std::optional<std::size_t> cheapest;
        double least = 0;
        for (std::size_t i = 0; i < tasks.size(); ++i) {
            const auto gone = static_cast<std::size_t>(view.axes->store->leafSize(tasks[i].layers.leaf) - tasks[i].keep);
            if (gone >= costs[i].size()) continue;
            const double step = costs[i][gone] - (gone == 0 ? 0.0 : costs[i][gone - 1]);
            if (cheapest && step >= least) continue;
            cheapest = i;
            least = step;
        }
        if (!cheapest) break;
        --tasks[*cheapest].keep;
    }
    return tasks;
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

}  // namespace

void removeCompensated(ir::Model& model, const ir::Model& reference, const TransformerView& view,
                       std::vector<UnitTask>& tasks, const DataScore& fallback,
                       const data::Split& samples, Progress& progress, pipeline::PassReport& report) {
    std::vector<std::size_t> order(tasks.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return position(view, tasks[a]) < position(view, tasks[b]);
    });
    Compensator compensator(model, reference, view, samples, progress, report);
    for (const std::size_t index : order) {
        UnitTask& task = tasks[index];
        compensator.run(model, task);
        if (task.refusal.empty()) continue;
        report.notes.push_back(
            fmt::format("'{}' is not compensated: {}", task.layers.layers.front().name, task.refusal));
        if (task.mask.empty())
            task.mask = scoredMask(model, view, task, fallback, samples, progress, report);
    }
    std::erase_if(tasks, [](const UnitTask& task) { return task.mask.empty(); });
}

std::vector<RemovalPath> removalPaths(const ir::Model& model, const TransformerView& view,
                                      std::vector<UnitTask>& tasks, const std::vector<std::vector<std::int64_t>>& keeps,
                                      const data::Split& samples, Progress& progress) {
    pipeline::PassReport unused;
    const Compensator compensator(model, model, view, samples, progress, unused);
    std::vector<RemovalPath> paths;
    for (std::size_t i = 0; i < tasks.size(); ++i) paths.push_back(compensator.path(tasks[i], keeps[i]));
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
