// Removes attention heads for good: the columns of Q, K and V, the rows of O, and every Reshape, Split, scale
// and cache shape that carries them shrink together, so the matrices really get smaller.
//
//   Q [d, 12·64]  K [d, 12·64]  V [d, 12·64]  O [12·64, d]   →   Q [d, 9·64]  K [d, 9·64]  V [d, 9·64]  O
//   [9·64, d]
//
// Sources: Michel, Levy, Neubig 2019, "Are Sixteen Heads Really Better than One?"; the score by output norm
// is the mean square of what a head adds to the residual stream, E‖x_h W_O,h‖². With grouped queries a
// key-value head goes together with all queries that use it. Without calibration data what remains is not
// adjusted: the result equals the original model with those heads masked. With them, heads are chosen by what the
// output misses once the others' output weights are fitted again, and those are (support/compensation.h). Not
// handled: attention whose heads meet a reduction or leave the graph (refused with the reason).

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "lib/analysis/shrink.h"
#include "lib/support/error.h"
#include "passes/passes.h"
#include "passes/remove_heads/attention_entropy.h"
#include "passes/support/index_ranges.h"
#include "passes/support/compensation.h"
#include "passes/support/unit_plan.h"
#include "passes/support/unit_request.h"

namespace tcompress::passes {
namespace {

using analysis::AtomId;
using analysis::AttentionLayer;
using analysis::TransformerView;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "remove-heads";

enum class Importance { automatic, magnitude, wanda, entropy, outputNorm, reconstruction };

struct Options {
    std::optional<double> ratio;
    std::optional<std::int64_t> count;
    std::vector<std::string> heads;
    Importance importance = Importance::automatic;
    Loss loss = Loss::layer;
    Scope scope = Scope::layer;
    std::optional<bool> compensate;
    Refit refit = Refit::all;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table
        .option("ratio", &Options::ratio,
                "share of the heads to remove in each layer, or of all heads with scope global")
        .range(0.0, 1.0)
        .option("count", &Options::count,
                "number of heads to remove in each layer, or in all with scope global")
        .range(0, 1 << 20)
        .option("heads", &Options::heads, "heads to remove by number, LAYER:HEAD or LAYER:FIRST-LAST, from 0")
        .choice(
            "importance", &Options::importance,
            {{"auto", Importance::automatic},
             {"magnitude", Importance::magnitude},
             {"wanda", Importance::wanda},
             {"entropy", Importance::entropy},
             {"output-norm", Importance::outputNorm},
             {"reconstruction", Importance::reconstruction}},
            "what makes a head worth keeping: the size of its weights; on calibration data the mean size of each of its "
            "channels times that of the weights that read it (wanda), how far its attention is from looking everywhere alike "
            "(entropy: the weakest of them, it does not see what the head is used for), or the size of what it adds to the "
            "output; or "
            "what the output misses without it once the other heads' weights are fitted again. "
            "auto takes reconstruction when there are calibration data, output-norm with compensate false")
        .choice("loss", &Options::loss, {{"layer", Loss::layer}, {"model", Loss::model}},
                "what heads are chosen to spare, with reconstruction: the outputs of the layers that read them; or the model's "
                "outputs, to second order and with gradients (K-FAC)")
        .choice("scope", &Options::scope,
                {{"layer", Scope::layer}, {"global", Scope::global}, {"auto", Scope::automatic}},
                "remove the same share in every layer; or the least important heads of the whole model; or, with "
                "reconstruction, what of both and of what lies between the outputs miss least on held-back samples")
        .option("compensate", &Options::compensate,
                "fit the output projections again, so that the heads that stay give what all gave on the "
                "calibration data; left out: when there are calibration data")
        .choice("refit", &Options::refit, {{"all", Refit::all}, {"readers", Refit::readers}},
                "what compensation fits again: the projections that read what is removed, and behind the first of them "
                "every linear layer that reads the residual stream, each to what it gave in the original model; or the "
                "former alone")
        .option("targets", &Options::targets, "layers to work on, by patterns over their output projection")
        .option("ignore", &Options::ignore,
                "layers to leave alone, by patterns over their output projection");
    return table;
}

UnitRequest requestOf(const Options& options) {
    const bool isNamed = !options.heads.empty();
    const Ranking ranking = !isNamed && options.importance == Importance::automatic        ? Ranking::automatic
                            : !isNamed && options.importance == Importance::reconstruction ? Ranking::reconstruction
                                                                                           : Ranking::otherwise;
    return {ranking, options.loss, options.compensate};
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    const int given =
        int{options.ratio.has_value()} + int{options.count.has_value()} + int{!options.heads.empty()};
    if (given != 1)
        diagnostics.add(
            pointer,
            fmt::format("remove-heads needs exactly one of ratio, count and heads; {} are given", given));
    checkUnitRequest(requestOf(options), "output-norm", pointer, diagnostics);
}

class RemoveHeads : public pipeline::Pass {
  public:
    explicit RemoveHeads(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        const TransformerView& view = context.view(model);
        if (!view.isTransformer())
            throw PassError(fmt::format(
                "{}: no attention was recognised in this model; 'tcompress inspect' says why", kPass));
        PassReport report;
        const std::vector<UnitLayer> layers = attentionUnits(view);
        std::vector<UnitLayers> groups =
            targetLayers(view, layers, options_.targets, options_.ignore, report);
        std::vector<UnitTask> tasks;
        analysis::KeepMasks keep;
        if (requestOf(options_).fitsAgain(context.hasCalibration())) {
            tasks = compensated(model, context, view, layers, groups, report);
            keep = keepMasks(tasks, kIdle, report);
        } else if (options_.heads.empty()) {
            keep = chooseByScore(model, context, view, groups, report);
        } else {
            keep = chooseByNumber(view, layers, groups);
        }
        if (keep.empty()) return report;
        const bool asksForAll = std::any_of(keep.begin(), keep.end(), [&](const auto& entry) {
            const bool countIsAll = options_.count && options_.scope == Scope::layer && *options_.count >= std::ssize(entry.second);
            return options_.ratio == 1.0 || countIsAll;
        });
        if (asksForAll)
            report.notes.push_back("a layer keeps a head also where all were asked for; drop-layers takes whole layers out");
        describeChanges(view, layers, keep, tasks, report);
        // The same graph with other constants has the same leaves.
        const analysis::ShrinkReport shrunk =
            analysis::shrink(model, *context.view(model).axes, keep, kPass);
        report.notes.insert(report.notes.end(), shrunk.notes.begin(), shrunk.notes.end());
        return report;
    }

  private:
    static constexpr const char* kIdle = "the share asked for is less than one head";

    Selection selection() const {
        return {options_.count.value_or(-1), options_.ratio.value_or(0.0), options_.scope, /*multiple=*/1};
    }

    /// Heads chosen in whichever way, the output projections fitted again. Layers where that cannot be done lose
    /// the heads that matter least without it.
    std::vector<UnitTask> compensated(ir::Model& model, const PassContext& context,
                                      const TransformerView& view, const std::vector<UnitLayer>& layers,
                                      std::vector<UnitLayers>& groups, PassReport& report) const {
        const data::Split samples =
            context.calibrationSplit(kPass, "compensate fits the output projections again", kHeldBackShare);
        std::vector<UnitTask> tasks;
        if (requestOf(options_).ranking != Ranking::otherwise) {
            report.notes.push_back("heads chosen by what the output misses without them");
            std::shared_ptr<const OutputCurvature> curvature;
            if (options_.loss == Loss::model) curvature = readersCurvature(model, view, groups, samples, context, report);
            tasks = plannedTasks(model, view, groups, selection(), samples, context, std::move(curvature));
        } else {
            const analysis::KeepMasks masks = options_.heads.empty()
                                                  ? chooseByScore(model, context, view, groups, report)
                                                  : chooseByNumber(view, layers, groups);
            tasks = tasksOf(groups, masks);
        }
        removeCompensated(model, referenceFor(model, view, groups, samples.fit, context), view, tasks,
                          {calibration::MomentOrder::second, outputContribution}, samples, context.environment(),
                          report, options_.refit);
        return tasks;
    }

    analysis::KeepMasks chooseByScore(const ir::Model& model, const PassContext& context,
                                      const TransformerView& view, std::vector<UnitLayers>& groups,
                                      PassReport& report) const {
        Importance importance = options_.importance;
        if (importance == Importance::automatic)
            importance = context.hasCalibration() ? Importance::outputNorm : Importance::magnitude;
        if (importance == Importance::entropy) return chooseByEntropy(model, context, view, groups, report);
        const bool byData = importance != Importance::magnitude;
        report.notes.push_back(
            importance == Importance::outputNorm
                ? "heads ranked by the mean square of their output on calibration data"
            : byData ? "heads ranked by mean |channel| times output weight on calibration data"
                     : "heads ranked by the L2 norm of their weights");
        const DataScore score =
            importance == Importance::wanda
                ? DataScore{calibration::MomentOrder::first, activationTimesWeight}
                : DataScore{calibration::MomentOrder::second, outputContribution};
        const data::Dataset* calibration =
            byData ? &context.calibration(kPass, "this importance measures what each head makes") : nullptr;
        const std::vector<UnitGroup> units = scoreUnits(model, view, groups, byData ? &score : nullptr, calibration,
                                                        context.environment(), report);
        return keepMasks(groups, selectUnits(units, selection()), kIdle, report);
    }

    analysis::KeepMasks chooseByEntropy(const ir::Model& model, const PassContext& context, const TransformerView& view,
                                        std::vector<UnitLayers>& groups, PassReport& report) const {
        const data::Dataset& calibration = context.calibration(kPass, "entropy looks at what heads attend to");
        report.notes.push_back("heads ranked by how far their attention on calibration data is from uniform");
        std::vector<std::optional<std::vector<double>>> scores = attentionCertainty(model, view, groups, calibration, context);
        std::vector<UnitGroup> units;
        std::vector<UnitLayers> scored;
        for (std::size_t i = 0; i < groups.size(); ++i) {
            const std::string& name = groups[i].layers.front().name;
            if (!scores[i]) {
                report.skipped.push_back({name, "its attention weights are no value of the graph"});
                continue;
            }
            units.push_back({name, std::move(*scores[i])});
            scored.push_back(std::move(groups[i]));
        }
        groups = std::move(scored);
        return keepMasks(groups, selectUnits(units, selection()), kIdle, report);
    }

    analysis::KeepMasks chooseByNumber(const TransformerView& view, const std::vector<UnitLayer>& layers,
                                       const std::vector<UnitLayers>& groups) const {
        std::map<std::size_t, std::set<std::int64_t>> wanted;
        for (const std::string& item : options_.heads) {
            const std::size_t colon = item.find(':');
            const auto layer = parseIndexRange(std::string_view(item).substr(0, colon));
            const auto heads = colon == std::string::npos
                                   ? std::nullopt
                                   : parseIndexRange(std::string_view(item).substr(colon + 1));
            if (!layer || layer->size() != 1 || !heads)
                throw PassError(fmt::format(
                    "{}: heads '{}' is not LAYER:HEAD or LAYER:FIRST-LAST, for example 0:3", kPass, item));
            wanted[static_cast<std::size_t>(layer->front())].insert(heads->begin(), heads->end());
        }
        analysis::KeepMasks keep;
        for (const auto& [layer, heads] : wanted) {
            const bool removable =
                layer < layers.size() && std::any_of(groups.begin(), groups.end(),
                                                     [&, leaf = layers[layer].leaf](const UnitLayers& group) {
                                                         return group.leaf == leaf;
                                                     });
            if (!removable)
                throw PassError(
                    fmt::format("{}: heads names layer {}, which is not one of the {} attention layers that "
                                "can lose heads",
                                kPass, layer, view.attention.size()));
            const AtomId leaf = layers[layer].leaf;
            keep[leaf] = maskOf(view.attention[layer], view.axes->store->leafSize(leaf), layer, heads);
        }
        return keep;
    }

    static std::vector<bool> maskOf(const AttentionLayer& attention, std::int64_t units, std::size_t layer,
                                    const std::set<std::int64_t>& heads) {
        const std::int64_t headsPerUnit = attention.heads / units;
        std::vector<bool> keep(static_cast<std::size_t>(units), true);
        for (const std::int64_t head : heads) {
            if (head >= attention.heads)
                throw PassError(
                    fmt::format("{}: heads names head {} of layer {}, which has {} heads (0 to {})", kPass,
                                head, layer, attention.heads, attention.heads - 1));
            const std::int64_t unit = head / headsPerUnit;
            for (std::int64_t other = unit * headsPerUnit; other < (unit + 1) * headsPerUnit; ++other)
                if (!heads.contains(other))
                    throw PassError(fmt::format(
                        "{}: query heads {} to {} of layer {} share one key-value head and only go together; "
                        "heads names {} "
                        "but not {}",
                        kPass, unit * headsPerUnit, (unit + 1) * headsPerUnit - 1, layer, head, other));
            keep[static_cast<std::size_t>(unit)] = false;
        }
        if (std::find(keep.begin(), keep.end(), true) == keep.end())
            throw PassError(
                fmt::format("{}: heads names every head of layer {}; one must stay", kPass, layer));
        return keep;
    }

    static void describeChanges(const TransformerView& view, const std::vector<UnitLayer>& layers,
                                const analysis::KeepMasks& keep, const std::vector<UnitTask>& tasks,
                                PassReport& report) {
        for (std::size_t layer = 0; layer < layers.size(); ++layer) {
            const auto mask = keep.find(layers[layer].leaf);
            if (mask == keep.end()) continue;
            const auto units = static_cast<std::int64_t>(mask->second.size());
            const auto kept = std::count(mask->second.begin(), mask->second.end(), true);
            std::vector<std::int64_t> removed;
            for (std::int64_t i = 0; i < units; ++i)
                if (!mask->second[static_cast<std::size_t>(i)]) removed.push_back(i);
            const std::int64_t heads = view.attention[layer].heads;
            const CompensationText compensation = compensationText(tasks, layers[layer].leaf);
            report.changed.push_back(
                {layers[layer].name,
                 fmt::format("{} heads to {} ({}{} {} removed){}", heads, heads / units * kept,
                             units == heads ? "head" : "key-value group", removed.size() == 1 ? "" : "s",
                             fmt::join(removed, ", "), compensation.text),
                 compensation.error});
        }
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo removeHeads() {
    pipeline::PassInfo info;
    info.type = "remove-heads";
    info.summary = "remove attention heads; Q, K, V, O and every shape shrink";
    info.details =
        "Removes the least important heads of each attention layer. With grouped-query attention a key-value head "
        "goes with its queries. With calibration data the output projections are fitted again in closed form, "
        "layer by layer, so that the heads that stay give what all gave; how hard and to what is chosen on rows "
        "that are held back, and the report says what it was worth. Without, the result equals the original "
        "model with those heads masked.";
    info.paper = "Michel, Levy, Neubig 2019, Are Sixteen Heads Really Better than One?";
    info.data = pipeline::DataNeed::optional;
    info.defaultMethod = true;
    bindOptions<RemoveHeads, Options>(info, optionTable(), checkOptions);
    return info;
}

}  // namespace tcompress::passes
