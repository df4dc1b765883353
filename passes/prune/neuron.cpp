// Removes FFN neurons for good: columns of up (and gate), their biases, and rows of down.
//
//   down(act(up(x)))  with up [d, 4d], down [4d, d]   →   the same with up [d, k], down [k, d]
//
// A neuron's score is the L2 norm of its weights, or, on calibration data, mean |activation| · ‖its row of
// down‖ (Wanda's score summed over a structure: Sun et al. 2023, "A Simple and Effective Pruning Approach for
// Large Language Models"). What remains is not adjusted: the result equals the original with those neurons
// masked. Not handled: hidden axes that are normalised or leave the graph (refused with the reason).

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "lib/analysis/shrink.h"
#include "lib/analysis/targets.h"
#include "lib/support/error.h"
#include "passes/passes.h"
#include "passes/support/structure.h"

namespace tcompress::passes {
namespace {

using analysis::AtomId;
using analysis::FeedForward;
using analysis::TransformerView;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "prune/neuron";

enum class Importance { automatic, magnitude, activation };

struct Options {
    double sparsity = 0.5;
    std::optional<std::int64_t> width;
    Importance importance = Importance::automatic;
    Scope scope = Scope::layer;
    std::int64_t multiple = 8;
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
                 {"activation", Importance::activation}},
                "what makes a neuron worth keeping: the size of its weights, or mean |activation| times the "
                "norm of its "
                "output weights on calibration data; auto takes activation when there are calibration data")
        .choice("scope", &Options::scope, {{"layer", Scope::layer}, {"global", Scope::global}},
                "remove the same share in every layer, or the least important neurons of the whole model")
        .option("multiple", &Options::multiple,
                "round the neurons that stay up to a multiple of this (scope layer): matrix kernels like "
                "multiples of 8")
        .range(1, 4096)
        .option("targets", &Options::targets, "layers to work on, by patterns over their down projection")
        .option("ignore", &Options::ignore, "layers to leave alone, by patterns over their down projection");
    return table;
}

/// Feed-forward layers whose neurons are the same leaf (shared weights) and so go together.
struct Group {
    AtomId leaf = -1;
    std::vector<std::size_t> layers;
};

std::string layerName(const TransformerView& view, std::size_t layer) {
    const FeedForward& ffn = view.feedForward[layer];
    return ffn.down.empty() ? fmt::format("feed-forward {}", layer) : view.sites[ffn.down.front()].name;
}

class PruneNeuron : public pipeline::Pass {
  public:
    explicit PruneNeuron(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        const TransformerView& view = context.view(model);
        PassReport report;
        const std::vector<Group> groups = prunableGroups(view, report);
        const analysis::KeepMasks keep = choose(model, context, view, groups, report);
        if (keep.empty()) return report;
        for (const Group& group : groups) {
            const auto mask = keep.find(group.leaf);
            if (mask == keep.end()) continue;
            const auto kept = std::count(mask->second.begin(), mask->second.end(), true);
            for (const std::size_t layer : group.layers)
                report.changed.push_back(
                    {layerName(view, layer), fmt::format("{} neurons to {}", mask->second.size(), kept)});
        }
        const analysis::ShrinkReport shrunk = analysis::shrink(model, *view.axes, keep, kPass);
        report.notes.insert(report.notes.end(), shrunk.notes.begin(), shrunk.notes.end());
        return report;
    }

  private:
    std::vector<Group> prunableGroups(const TransformerView& view, PassReport& report) const {
        if (view.feedForward.empty())
            throw PassError(fmt::format(
                "{}: no feed-forward layer was recognised in this model; 'tcompress inspect' says why",
                kPass));
        const std::vector<std::size_t> selected =
            analysis::SitePatterns(options_.targets, options_.ignore).select(view);
        const std::set<std::size_t> targets(selected.begin(), selected.end());
        std::vector<Group> groups;
        for (std::size_t i = 0; i < view.feedForward.size(); ++i) {
            const FeedForward& layer = view.feedForward[i];
            if (std::none_of(layer.down.begin(), layer.down.end(),
                             [&](std::size_t site) { return targets.contains(site); }))
                continue;
            if (!layer.refusals.empty()) {
                report.skipped.push_back(
                    {layerName(view, i), fmt::format("{}", fmt::join(layer.refusals, "; "))});
                continue;
            }
            if (layer.widthLeaves.size() != 1) {
                report.skipped.push_back({layerName(view, i), "its hidden axis is split into several axes"});
                continue;
            }
            const AtomId leaf = layer.widthLeaves.front();
            const auto same =
                std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.leaf == leaf; });
            if (same == groups.end())
                groups.push_back({leaf, {i}});
            else
                same->layers.push_back(i);
        }
        return groups;
    }

    analysis::KeepMasks choose(const ir::Model& model, const PassContext& context,
                               const TransformerView& view, const std::vector<Group>& groups,
                               PassReport& report) const {
        const bool byActivation = options_.importance == Importance::activation ||
                                  (options_.importance == Importance::automatic && context.hasCalibration());
        report.notes.push_back(
            byActivation ? "neurons ranked by mean |activation| times output weight on calibration data"
                         : "neurons ranked by the L2 norm of their weights");
        std::map<const ir::Value*, pipeline::ChannelStatistics> statistics;
        if (byActivation) {
            pipeline::ValueSet inputs;
            for (const Group& group : groups)
                for (const std::size_t layer : group.layers)
                    for (const std::size_t site : view.feedForward[layer].down)
                        inputs.insert(view.sites[site].input);
            statistics = pipeline::collectChannelStatistics(
                model, context.calibration(kPass, "importance activation measures each neuron's activation"),
                inputs, pipeline::Moments::first, context.progress());
        }
        std::vector<UnitGroup> units;
        std::vector<const Group*> scored;
        for (const Group& group : groups) {
            UnitGroup unit{layerName(view, group.layers.front()), {}};
            std::string refusal;
            for (const std::size_t layer : group.layers)
                refusal = addScores(view, view.feedForward[layer], group.leaf,
                                    byActivation ? &statistics : nullptr, unit.scores);
            if (!refusal.empty()) {
                report.skipped.push_back({unit.site, refusal});
                continue;
            }
            units.push_back(std::move(unit));
            scored.push_back(&group);
        }
        analysis::KeepMasks keep;
        const auto masks = select(units);
        for (std::size_t i = 0; i < masks.size(); ++i) {
            if (std::find(masks[i].begin(), masks[i].end(), false) == masks[i].end())
                report.skipped.push_back(
                    {units[i].site, "nothing to remove at this share, width and multiple"});
            else
                keep[scored[i]->leaf] = masks[i];
        }
        return keep;
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

    /// Adds one layer's scores; the reason when it cannot be scored.
    static std::string addScores(const TransformerView& view, const FeedForward& layer, AtomId leaf,
                                 const std::map<const ir::Value*, pipeline::ChannelStatistics>* statistics,
                                 std::vector<double>& scores) {
        scores.resize(static_cast<std::size_t>(view.axes->store->leafSize(leaf)));
        const auto add = [&](const std::vector<double>& more) {
            for (std::size_t i = 0; i < scores.size(); ++i) scores[i] += more[i];
        };
        std::set<const ir::Value*> weights;
        const auto addSites = [&](const std::vector<std::size_t>& sites, auto&& score) -> std::string {
            for (const std::size_t index : sites) {
                const analysis::Site& site = view.sites[index];
                if (!weights.insert(site.weight).second) continue;
                if (std::string refusal = scoringRefusal(site); !refusal.empty()) return refusal;
                if (std::string refusal = score(site); !refusal.empty()) return refusal;
            }
            return {};
        };
        if (statistics != nullptr)
            return addSites(layer.down, [&](const analysis::Site& site) -> std::string {
                const auto found = statistics->find(site.input);
                if (found == statistics->end())
                    return "its down projection did not run on the calibration data";
                add(activationTimesWeight(view, site, leaf, found->second));
                return {};
            });
        const auto byWeights = [&](const analysis::Site& site) -> std::string {
            add(squaredWeights(view, site, leaf));
            return {};
        };
        std::string refusal = addSites(layer.up, byWeights);
        return refusal.empty() ? addSites(layer.down, byWeights) : refusal;
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
        "Ranks the hidden neurons of each feed-forward layer by their weights, or by activation times output "
        "weight on "
        "calibration data, and removes the least important. Gated layers lose the neuron in gate and up "
        "alike. The result "
        "equals the original model with those neurons masked.";
    info.paper = "Sun et al. 2023, A Simple and Effective Pruning Approach for Large Language Models";
    info.data = pipeline::DataNeed::optional;
    bindOptions<PruneNeuron>(info, optionTable());
    return info;
}

}  // namespace tcompress::passes
