// Removes FFN neurons for good: columns of up (and gate), their biases, and rows of down.
//
//   down(act(up(x)))  with up [d, 4d], down [4d, d]   →   the same with up [d, k], down [k, d]
//
// A neuron's score is the L2 norm of its weights, or, on calibration data, mean |activation| · ‖its row of
// down‖ (Wanda's score summed over a structure: Sun et al. 2023, "A Simple and Effective Pruning Approach for
// Large Language Models"). Without calibration data what remains is not adjusted: the result equals the original
// with those neurons masked. With them, neurons are chosen by what the output misses once the others' weights in
// down are fitted again, and those are (support/compensation.h). Not handled: hidden axes that are normalised or leave the graph (refused with the reason).

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "lib/analysis/shrink.h"
#include "lib/support/error.h"
#include "passes/passes.h"
#include "passes/support/compensation.h"
#include "passes/support/unit_plan.h"
#include "passes/support/unit_request.h"

namespace tcompress::passes {
namespace {

using analysis::FeedForward;
using analysis::TransformerView;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "prune/neuron";

enum class Importance { automatic, magnitude, activation, reconstruction };

struct Options {
    double sparsity = 0.5;
    std::optional<std::int64_t> width;
    Importance importance = Importance::automatic;
    Loss loss = Loss::layer;
    Scope scope = Scope::layer;
    std::int64_t multiple = 8;
    std::optional<bool> compensate;
    Refit refit = Refit::all;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table
        .option("sparsity", &Options::sparsity,
                "share of the neurons to remove in each layer, or of all with scope global")
        .alias("ratio")
        .range(0.0, 1.0)
        .option("width", &Options::width, "neurons to keep in each layer, instead of a share")
        .range(1, 1 << 24)
        .choice("importance", &Options::importance,
                {{"auto", Importance::automatic},
                 {"magnitude", Importance::magnitude},
                 {"activation", Importance::activation},
                 {"reconstruction", Importance::reconstruction}},
                "what makes a neuron worth keeping: the size of its weights; mean |activation| times the norm of its "
                "output weights on calibration data; or what the output misses without it once the other neurons' "
                "weights are fitted again. auto takes reconstruction when there are calibration data, activation "
                "with compensate false")
        .choice("loss", &Options::loss, {{"layer", Loss::layer}, {"model", Loss::model}},
                "what neurons are chosen to spare, with reconstruction: the outputs of the layers that read them; or the model's "
                "outputs, to second order and with gradients (K-FAC)")
        .choice("scope", &Options::scope,
                {{"layer", Scope::layer}, {"global", Scope::global}, {"auto", Scope::automatic}},
                "remove the same share in every layer; or the least important neurons of the whole model; or, with "
                "reconstruction, what of both and of what lies between the outputs miss least on held-back samples")
        .option("multiple", &Options::multiple,
                "round the neurons that stay up to a multiple of this (scope global: remove so many at a time, with "
                "reconstruction): matrix kernels like multiples of 8")
        .range(1, 4096)
        .option("compensate", &Options::compensate,
                "fit the down projections again, so that the neurons that stay give what all gave on the "
                "calibration data; left out: when there are calibration data")
        .choice("refit", &Options::refit, {{"all", Refit::all}, {"readers", Refit::readers}},
                "what compensation fits again: the projections that read what is removed, and behind the first of them "
                "every linear layer that reads the residual stream, each to what it gave in the original model; or the "
                "former alone")
        .option("targets", &Options::targets, "layers to work on, by patterns over their down projection")
        .option("ignore", &Options::ignore, "layers to leave alone, by patterns over their down projection");
    return table;
}

UnitRequest requestOf(const Options& options) {
    const Ranking ranking = options.importance == Importance::automatic        ? Ranking::automatic
                            : options.importance == Importance::reconstruction ? Ranking::reconstruction
                                                                               : Ranking::otherwise;
    return {ranking, options.loss, options.compensate};
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    checkUnitRequest(requestOf(options), "activation", pointer, diagnostics);
    if (options.width && options.scope != Scope::layer)
        diagnostics.add(pointer + "/scope",
                        "width is what each layer keeps, scope shares out what all lose together; take sparsity with it");
}

class PruneNeuron : public pipeline::Pass {
  public:
    explicit PruneNeuron(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        const TransformerView& view = context.view(model);
        if (view.feedForward.empty())
            throw PassError(fmt::format(
                "{}: no feed-forward layer was recognised in this model; 'tcompress inspect' says why",
                kPass));
        PassReport report;
        std::vector<UnitLayers> groups =
            targetLayers(view, feedForwardUnits(view), options_.targets, options_.ignore, report);
        std::vector<UnitTask> tasks;
        analysis::KeepMasks keep;
        if (requestOf(options_).fitsAgain(context.hasCalibration())) {
            tasks = compensated(model, context, view, groups, report);
            keep = keepMasks(tasks, kIdle, report);
        } else {
            keep = choose(model, context, view, groups, report);
        }
        if (keep.empty()) return report;
        if (!options_.width && options_.sparsity == 1)
            report.notes.push_back("a layer keeps some neurons also where all were asked for; drop-layers takes whole layers out");
        for (const UnitLayers& group : groups) {
            const auto mask = keep.find(group.leaf);
            if (mask == keep.end()) continue;
            const auto kept = std::count(mask->second.begin(), mask->second.end(), true);
            const CompensationText compensation = compensationText(tasks, group.leaf);
            for (const UnitLayer& layer : group.layers)
                report.changed.push_back(
                    {layer.name,
                     fmt::format("{} neurons to {}{}", mask->second.size(), kept, compensation.text),
                     compensation.error});
        }
        // The same graph with other constants has the same leaves.
        const analysis::ShrinkReport shrunk =
            analysis::shrink(model, *context.view(model).axes, keep, kPass);
        report.notes.insert(report.notes.end(), shrunk.notes.begin(), shrunk.notes.end());
        return report;
    }

  private:
    static constexpr const char* kIdle = "nothing to remove at this share, width and multiple";

    /// Neurons chosen in whichever way, the down projections fitted again. Layers where that cannot be done lose
    /// the neurons that matter least without it.
    std::vector<UnitTask> compensated(ir::Model& model, const PassContext& context,
                                      const TransformerView& view, std::vector<UnitLayers>& groups,
                                      PassReport& report) const {
        const data::Split samples =
            context.calibrationSplit(kPass, "compensate fits the down projections again", kHeldBackShare);
        std::vector<UnitTask> tasks;
        if (requestOf(options_).ranking != Ranking::otherwise) {
            report.notes.push_back("neurons chosen by what the output misses without them");
            std::shared_ptr<const OutputCurvature> curvature;
            if (options_.loss == Loss::model) curvature = readersCurvature(model, view, groups, samples, context, report);
            tasks = plannedTasks(model, view, groups,
                                 {-1, options_.width ? 0.0 : options_.sparsity, options_.scope, options_.multiple},
                                 samples, context, std::move(curvature));
            if (options_.width)
                for (UnitTask& task : tasks) task.keep = std::min(task.keep, *options_.width);
        } else {
            tasks = tasksOf(groups, choose(model, context, view, groups, report));
        }
        removeCompensated(model, referenceFor(model, view, groups, samples.fit, context), view, tasks,
                          {calibration::MomentOrder::first, activationTimesWeight}, samples, context.environment(),
                          report, options_.refit);
        return tasks;
    }

    analysis::KeepMasks choose(const ir::Model& model, const PassContext& context,
                               const TransformerView& view, std::vector<UnitLayers>& groups,
                               PassReport& report) const {
        const bool byActivation = options_.importance == Importance::activation ||
                                  (options_.importance == Importance::automatic && context.hasCalibration());
        report.notes.push_back(
            byActivation ? "neurons ranked by mean |activation| times output weight on calibration data"
                         : "neurons ranked by the L2 norm of their weights");
        const DataScore byData{calibration::MomentOrder::first, activationTimesWeight};
        const data::Dataset* calibration =
            byActivation
                ? &context.calibration(kPass, "importance activation measures each neuron's activation")
                : nullptr;
        const std::vector<UnitGroup> units = scoreUnits(model, view, groups, byActivation ? &byData : nullptr,
                                                        calibration, context.environment(), report);
        return keepMasks(groups, select(units), kIdle, report);
    }

    std::vector<std::vector<bool>> select(const std::vector<UnitGroup>& units) const {
        if (!options_.width)
            return selectUnits(units, {-1, options_.sparsity, options_.scope, options_.multiple});
        std::vector<std::vector<bool>> masks;
        for (const UnitGroup& unit : units) {
            const auto neurons = static_cast<std::int64_t>(unit.scores.size());
            const std::int64_t count = std::max<std::int64_t>(0, neurons - *options_.width);
            masks.push_back(selectUnits({unit}, {count, 0.0, Scope::layer, /*multiple=*/1}).front());
        }
        return masks;
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo pruneNeuron() {
    pipeline::PassInfo info;
    info.type = "prune";
    info.method = "neuron";
    info.summary = "remove FFN neurons; up, gate and down really shrink";
    info.details =
        "Removes the least important hidden neurons of each feed-forward layer. Gated layers lose the neuron in gate "
        "and up alike. With calibration data the down projections are fitted again in closed form, layer by layer, "
        "so that the neurons that stay give what all gave; how hard and to what is chosen on rows that are held "
        "back, and the report says what it was worth. Without, the result equals the original model with those "
        "neurons masked.";
    info.paper = "Sun et al. 2023, A Simple and Effective Pruning Approach for Large Language Models";
    info.data = pipeline::DataNeed::optional;
    bindOptions<PruneNeuron, Options>(info, optionTable(), checkOptions);
    return info;
}

}  // namespace tcompress::passes
