// Makes a model as small as a budget says (time on this machine, multiply-accumulates, parameters, energy) where its
// outputs miss it least: how many heads and neurons each layer keeps, whether its matrices become products of two smaller
// ones, and which sublayers and layers go as a whole, are chosen together.
//
//   cost table      what each number of heads and neurons, and each dropped sublayer, saves        budget/cost_table.h
//   error table     what it costs the model's outputs once the weights that stay are fitted again  budget/error_table.h
//   allocation      the choice with the least error within the budget, by dynamic programming      budget/allocation.h
//   refinement      parts change places while whole models, put together from the database, get nearer    budget/refinement.h
//   adjustment      costs do not quite add up: the whole choice is measured, and the budget moved by what was missed
//   application     layers are cut out (drop_layers/layer_choice.h), then heads and neurons go layer by layer, each on
//                   what the edited layers before it give (support/compensation.h)
//
// Source: Kurtic, Frantar, Alistarh 2023, "ZipLM: Inference-Aware Structured Pruning of Language Models". Not handled:
// sublayers in parallel that share their ends keep at least one unit.

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <optional>

#include "lib/analysis/cost.h"
#include "lib/analysis/shrink.h"
#include "lib/support/error.h"
#include "passes/drop_layers/layer_choice.h"
#include "passes/low_rank/fitted_factors.h"
#include "passes/passes.h"
#include "passes/prune/budget/allocation.h"
#include "passes/prune/budget/block_options.h"
#include "passes/prune/budget/cost_model.h"
#include "passes/prune/budget/error_table.h"
#include "passes/prune/budget/refinement.h"
#include "passes/support/compensation.h"

namespace tcompress::passes {
namespace {

using analysis::TransformerView;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "prune/budget";

struct Options {
    std::optional<double> speedup, macs, parameters, energy;
    std::string latencyTable;
    std::int64_t latencyThreads = 1, latencyBatch = 1;
    std::optional<std::int64_t> latencyLength;
    bool dropLayers = true, ranks = true;
    Loss loss = Loss::layer;
    Refit refit = Refit::all;
    std::int64_t multiple = 8;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("target.speedup", &Options::speedup, "how many times as fast the model is to be on this machine")
        .range(1, 1000)
        .option("target.macs", &Options::macs, "share of the multiply-accumulates that may stay")
        .range(0, 1)
        .option("target.params", &Options::parameters, "share of the parameters that may stay, embeddings included")
        .range(0, 1)
        .option("target.energy", &Options::energy, "share of the modelled energy of an inference that may stay")
        .range(0, 1)
        .option("latency_table", &Options::latencyTable,
                "file of measured times: read when it is there, so that the same bytes come out again; measured and "
                "written when it is not")
        .option("latency_threads", &Options::latencyThreads, "threads that times are measured with")
        .range(1, 1024)
        .option("latency_batch", &Options::latencyBatch, "samples in the input that times are measured with")
        .range(1, 4096)
        .option("latency_length", &Options::latencyLength,
                "tokens of it; left out: as many as the calibration samples have")
        .range(1, 1 << 20)
        .option("drop_layers", &Options::dropLayers,
                "whole sublayers and layers may go too, with linear maps in their place")
        .option("ranks", &Options::ranks,
                "matrices of a layer that keeps all its heads or neurons may become products of two smaller ones")
        .choice("loss", &Options::loss, {{"layer", Loss::layer}, {"model", Loss::model}},
                "what heads and neurons are chosen to spare: the outputs of the layers that read them; or the model's outputs, to "
                "second order and with gradients (K-FAC)")
        .choice("refit", &Options::refit, {{"all", Refit::all}, {"readers", Refit::readers}},
                "what is fitted again: the projections that read what is removed, and behind the first of them every linear "
                "layer that reads the residual stream, each to what it gave in the original model; or the former alone")
        .option("multiple", &Options::multiple,
                "numbers of neurons that stay, and ranks, are multiples of this: matrix kernels like multiples of 8")
        .range(1, 4096)
        .option("targets", &Options::targets, "layers to work on, by patterns over their output projections")
        .option("ignore", &Options::ignore, "layers to leave alone, by patterns over their output projections");
    return table;
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    const int given = int{options.speedup.has_value()} + int{options.macs.has_value()} +
                      int{options.parameters.has_value()} + int{options.energy.has_value()};
    if (given != 1)
        diagnostics.add(pointer + "/target", fmt::format("prune/budget needs exactly one of speedup, macs, params and "
                                                         "energy; {} are given",
                                                         given));
}

class PruneBudget : public pipeline::Pass {
  public:
    explicit PruneBudget(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        const data::Split samples = context.calibrationSplit(
            kPass, "what each layer is worth is measured on data", kHeldBackShare);
        PassReport report;
        const TransformerView& view = context.view(model);
        const Anatomy anatomy = dissect(view, anatomyOptions(), report);
        if (anatomy.parts.empty())
            throw PassError(fmt::format("{}: no layer of this model can lose heads or neurons; 'tcompress inspect' says "
                                        "why",
                                        kPass));
        const ir::Model original = model.clone();
        CostModel costs(original, anatomy, target(), latencySample(context), {options_.latencyThreads, options_.latencyTable},
                        context);
        requireReachable(costs, anatomy, anatomy.smallest());
        std::vector<std::string> refusals;
        const data::Split few = samplesToPlanBy(samples);
        std::shared_ptr<const OutputCurvature> curvature;
        if (options_.loss == Loss::model) curvature = readersCurvature(model, view, unitLayers(anatomy), samples, context, report);
        const ErrorTable errors = measureErrors(model, view, anatomy, few, refusals, context, curvature);
        for (std::size_t i = 0; i < refusals.size(); ++i)
            if (!refusals[i].empty()) report.skipped.push_back({anatomy.parts[i].name, refusals[i]});
        const Assignment planned = choose(costs, anatomy, errors);
        const Refinement refined = refine(model, anatomy, errors, costs, target().budget(costs.table().whole), planned,
                                          judgesOf(few), context);
        const Assignment& assignment = refined.assignment;
        costs.keep();
        describePlan(original, anatomy, assignment, costs, errors, report);
        report.notes.push_back(fmt::format("squared error of the outputs with all layers as planned {:.4f}, {:.4f} after {} "
                                           "trials of other plans",
                                           refined.errorBefore, refined.errorAfter, kRefinementTrials));
        apply(model, original, anatomy, assignment, samples, curvature, context, report);
        return report;
    }

  private:
    static std::vector<UnitLayers> unitLayers(const Anatomy& anatomy) {
        std::vector<UnitLayers> layers;
        for (const Part& part : anatomy.parts) layers.push_back(part.layers);
        return layers;
    }

    AnatomyOptions anatomyOptions() const {
        return {options_.multiple, options_.dropLayers, options_.ranks, options_.targets, options_.ignore};
    }

    BudgetTarget target() const {
        if (options_.macs) return {BudgetKind::macs, *options_.macs};
        if (options_.parameters) return {BudgetKind::parameters, *options_.parameters};
        if (options_.energy) return {BudgetKind::energy, *options_.energy};
        return {BudgetKind::speedup, options_.speedup.value_or(1)};
    }

    /// The first calibration samples, cut to the length asked for.
    exec::Feeds latencySample(const PassContext& context) const {
        const data::Dataset& given = context.givenCalibration(kPass, "what each layer is worth is measured on data");
        exec::Feeds feeds = given.rows(0, std::min(options_.latencyBatch, given.sampleCount()));
        if (!options_.latencyLength) return feeds;
        for (auto& [name, tensor] : feeds) {
            if (tensor.rank() != 2 || !isInteger(tensor.dtype())) continue;
            if (tensor.shape()[1] < *options_.latencyLength)
                throw PassError(fmt::format("{}: latency_length is {}, but the calibration samples have {} tokens", kPass,
                                            *options_.latencyLength, tensor.shape()[1]));
            std::vector<bool> first(static_cast<std::size_t>(tensor.shape()[1]));
            std::fill_n(first.begin(), *options_.latencyLength, true);
            tensor = compress(tensor, 1, first);
        }
        return feeds;
    }

    void requireReachable(CostModel& costs, const Anatomy& anatomy, const Assignment& smallest) const {
        const double whole = costs.table().whole, budget = target().budget(whole);
        // Where parts are small, what they save by themselves is less than what all of them do.
        if (costs.table().predicted(anatomy, smallest) <= budget || costs.cost(smallest) <= budget) return;
        throw PassError(fmt::format("{}: {} cannot be reached: with all removed that may go the model is {}; set a target "
                                    "within that, or let more go (targets, ignore, drop_layers)",
                                    kPass, target().describe(), target().describe(costs.cost(smallest), whole)));
    }

    /// The cheapest assignment in error whose cost as a whole keeps the budget. The sum of the parts misses a little:
    /// the limit that is allocated to moves by what it misses.
    Assignment choose(CostModel& costs, const Anatomy& anatomy, const ErrorTable& errors) const {
        constexpr int kRounds = 8;
        constexpr double kTolerance = 0.005;
        std::vector<std::vector<BlockOption>> options;
        std::vector<std::vector<Choice>> choices;
        for (std::size_t block = 0; block < anatomy.blocks.size(); ++block) {
            options.push_back(blockOptions(block, costs.table(), anatomy, errors));
            choices.emplace_back();
            for (const BlockOption& option : options.back()) choices.back().push_back(option.choice);
        }
        const double whole = costs.table().whole, budget = target().budget(whole);
        double limit = std::max(budget, costs.table().predicted(anatomy, anatomy.smallest()));
        std::optional<Assignment> best;
        double bestError = 0, nearest = whole;
        for (int round = 0; round < kRounds; ++round) {
            const auto chosen = allocate(choices, limit - whole);
            // Nothing is cheaper by the sum of the parts: the smallest may still do.
            Assignment assignment = anatomy.smallest();
            for (std::size_t block = 0; chosen && block < chosen->size(); ++block)
                for (std::size_t i = 0; i < anatomy.blocks[block].parts.size(); ++i)
                    assignment[anatomy.blocks[block].parts[i]] = options[block][(*chosen)[block]].parts[i];
            const double cost = costs.cost(assignment), error = predictedError(errors, anatomy, assignment);
            nearest = std::min(nearest, cost);
            const bool fits = cost <= budget * (1 + 1e-9);
            if (fits && (!best || error < bestError)) {
                best = assignment;
                bestError = error;
            }
            if ((!chosen && !fits) || (fits && cost >= budget * (1 - kTolerance))) break;
            // Past the budget, to the middle of what is near enough: steps to the budget itself may end a hair above it.
            limit += (fits ? budget : budget * (1 - kTolerance / 2)) - cost;
        }
        if (!best)
            throw PassError(fmt::format("{}: {} cannot be reached: the nearest that was found is {}", kPass,
                                        target().describe(), target().describe(nearest, whole)));
        return *best;
    }

    void describePlan(const ir::Model& original, const Anatomy& anatomy, const Assignment& assignment, CostModel& costs,
                      const ErrorTable& errors, PassReport& report) const {
        const ir::Model planned = shaped(original, anatomy, assignment);
        const analysis::ModelCost before = analysis::cost(original, analysis::recognise(original)),
                                  after = analysis::cost(planned, analysis::recognise(planned));
        const double whole = costs.table().whole, cost = costs.cost(assignment);
        report.notes.push_back(costs.origin());
        report.notes.push_back(fmt::format("predicted: {} (the sum of its parts says {}), squared error of the outputs {:.4f}",
                                           target().describe(cost, whole),
                                           target().describe(costs.table().predicted(anatomy, assignment), whole),
                                           predictedError(errors, anatomy, assignment)));
        if (target().kind == BudgetKind::speedup)
            report.notes.push_back(fmt::format("predicted: {:.3f} ms a run, before {:.3f} ms", 1e3 * cost, 1e3 * whole));
        report.notes.push_back(fmt::format("predicted: {:.3f} of the multiply-accumulates, {:.3f} of the parameters, {:.3f} of the bytes",
                                           static_cast<double>(after.macs) / static_cast<double>(before.macs),
                                           static_cast<double>(after.parameters) / static_cast<double>(before.parameters),
                                           static_cast<double>(after.bytes) / static_cast<double>(before.bytes)));
    }

    void apply(ir::Model& model, const ir::Model& original, const Anatomy& anatomy, const Assignment& assignment,
               const data::Split& samples, const std::shared_ptr<const OutputCurvature>& curvature, const PassContext& context,
               PassReport& report) const {
        cutOutSublayers(model, anatomy, assignment, samples, context, report);
        // The same layers in what is left.
        PassReport unused;
        const TransformerView& view = context.view(model);
        const Anatomy left = dissect(view, anatomyOptions(), unused);
        std::vector<UnitTask> tasks;
        std::vector<std::pair<const Part*, std::int64_t>> ranked;
        for (std::size_t i = 0; i < assignment.size(); ++i) {
            const Part& part = anatomy.parts[i];
            if (assignment[i].isDropped() || assignment[i] == part.units) continue;
            const auto now = std::find_if(left.parts.begin(), left.parts.end(),
                                          [&](const Part& other) { return other.name == part.name; });
            if (now == left.parts.end())
                throw PassError(fmt::format("{}: '{}' is not recognised any more once other layers are gone; set "
                                            "drop_layers to false",
                                            kPass, part.name));
            if (assignment[i].isRanks())
                ranked.emplace_back(&*now, assignment[i].rankPercent);
            else
                tasks.push_back({now->layers, assignment[i].units, {}, curvature});
        }
        const UnitWeights weights(view);
        std::map<std::string, LowRankFactors> factors;
        removeCompensated(model, original, view, tasks, {calibration::MomentOrder::first, activationTimesWeight}, samples,
                          context.environment(), report, options_.refit,
                          rankSteps(model, view, weights, ranked, factors, report));
        removeUnits(model, view, tasks, context, report);
        factorise(model, factors, context);
    }

    /// Steps that bring matrices to their ranks; while later layers are fitted the graph holds the products.
    std::vector<WalkStep> rankSteps(ir::Model& model, const TransformerView& view, const UnitWeights& weights,
                                    const std::vector<std::pair<const Part*, std::int64_t>>& parts,
                                    std::map<std::string, LowRankFactors>& factors, PassReport& report) const {
        std::vector<const TargetWeight*> matrices;
        std::map<const TargetWeight*, std::int64_t> percents;
        for (const auto& [part, percent] : parts)
            for (const std::string& name : part->matrices) {
                matrices.push_back(weights.find(name));
                percents[matrices.back()] = percent;
            }
        return layerSteps(model, view, matrices, [this, percents, &factors, &report](const LayerProblem& problem) {
            const LayerSums& fit = problem.evidence.fit;
            FittedFactors fitted =
                fitFactors(problem, rankAt(percents.at(problem.weight), fit.inputs, fit.outputs, options_.multiple));
            for (const analysis::Site* site : problem.weight->sites)
                report.changed.push_back({site->name, passes::describe(fitted), fitted.error});
            factors[problem.weight->constant->name()] = std::move(fitted.factors);
            return std::move(fitted.fit.layer);
        });
    }

    /// Products in the place of the matrices that `factors` has.
    static void factorise(ir::Model& model, const std::map<std::string, LowRankFactors>& factors, const PassContext& context) {
        if (factors.empty()) return;
        const UnitWeights weights(context.view(model));
        ir::Edit edit(model, kPass);
        for (const auto& [name, found] : factors) replaceByFactors(edit, *weights.find(name), found);
        edit.commit();
    }

    static void removeUnits(ir::Model& model, const TransformerView& view, const std::vector<UnitTask>& tasks,
                            const PassContext& context, PassReport& report) {
        const analysis::KeepMasks keep = keepMasks(tasks, "it keeps all its units", report);
        if (keep.empty()) return;
        for (const UnitTask& task : tasks) {
            const CompensationText compensation = compensationText(tasks, task.layers.leaf);
            const auto kept = std::count(task.mask.begin(), task.mask.end(), true);
            for (const UnitLayer& layer : task.layers.layers)
                report.changed.push_back({layer.name,
                                          fmt::format("{} {} to {}{}", task.mask.size(),
                                                      layer.kind == UnitKind::neurons ? "neurons" : headName(view, layer, task.mask.size()),
                                                      kept, compensation.text),
                                          compensation.error});
        }
        // The same graph with other constants has the same leaves.
        const analysis::ShrinkReport shrunk = analysis::shrink(model, *context.view(model).axes, keep, kPass);
        report.notes.insert(report.notes.end(), shrunk.notes.begin(), shrunk.notes.end());
    }

    static const char* headName(const TransformerView& view, const UnitLayer& layer, std::size_t units) {
        for (const analysis::AttentionLayer& attention : view.attention)
            if (attention.o == layer.consumers && attention.heads != static_cast<std::int64_t>(units))
                return "key-value groups";
        return "heads";
    }

    static void cutOutSublayers(ir::Model& model, const Anatomy& anatomy, const Assignment& assignment,
                                const data::Split& samples, const PassContext& context, PassReport& report) {
        const std::vector<LayerRun> runs = anatomy.runs(assignment);
        if (runs.empty()) return;
        cutOutRuns(model, runs, Patch::linear, samples, kPass, context.environment(), report);
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo pruneBudget() {
    pipeline::PassInfo info;
    info.type = "prune";
    info.method = "budget";
    info.summary = "heads, neurons, ranks and layers chosen together to meet a speed-up, or a share of work, size or energy";
    info.details =
        "Chooses how many heads and neurons every layer keeps, where matrices become products of two smaller ones, and "
        "which sublayers go as a whole, so that the model's outputs miss it least within a budget: a speed-up measured on this machine by the program's own executor, or a "
        "share of the multiply-accumulates, parameters or modelled energy. What each choice costs the outputs is measured "
        "on calibration data with the weights that stay fitted again; dynamic programming finds the best choice, "
        "trials of whole plans refine it, and it is carried out layer by layer. Measured times make the result depend on the machine: with latency_table, or "
        "cache_dir, they are kept, and the same table gives the same bytes.";
    info.paper = "Kurtic, Frantar, Alistarh 2023, ZipLM: Inference-Aware Structured Pruning of Language Models";
    info.data = pipeline::DataNeed::always;
    bindOptions<PruneBudget, Options>(info, optionTable(), checkOptions);
    return info;
}

}  // namespace tcompress::passes
