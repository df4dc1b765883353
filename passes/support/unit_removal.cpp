#include "passes/support/unit_removal.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "lib/analysis/targets.h"

namespace tcompress::passes {

using analysis::AtomId;
using analysis::AttentionLayer;
using analysis::FeedForward;
using analysis::Site;
using analysis::TransformerView;

namespace {

/// The leaf whose positions can go one by one: key-value groups, or queries where all share one key-value
/// head.
AtomId unitLeaf(const analysis::AxisStore& store, const AttentionLayer& layer) {
    for (const AtomId leaf : {layer.groupLeaf, layer.repeatLeaf})
        if (leaf >= 0 && store.leafSize(leaf) > 1) return leaf;
    return -1;
}

std::string headRefusal(const AttentionLayer& layer, AtomId leaf) {
    if (!layer.refusals.empty()) return fmt::format("{}", fmt::join(layer.refusals, "; "));
    return leaf < 0 ? "it has one head, which cannot go alone" : "";
}

std::string neuronRefusal(const FeedForward& layer) {
    if (!layer.refusals.empty()) return fmt::format("{}", fmt::join(layer.refusals, "; "));
    return layer.widthLeaves.size() == 1 ? "" : "its hidden axis is split into several axes";
}

}  // namespace

std::vector<UnitLayer> attentionUnits(const TransformerView& view) {
    std::vector<UnitLayer> layers;
    for (const AttentionLayer& attention : view.attention) {
        UnitLayer layer;
        layer.kind = UnitKind::heads;
        layer.name = attention.o.empty() ? fmt::format("attention {}", layers.size())
                                         : view.sites[attention.o.front()].name;
        layer.leaf = unitLeaf(*view.axes->store, attention);
        layer.refusal = headRefusal(attention, layer.leaf);
        layer.consumers = attention.o;
        layer.residualAdd = attention.residualAdd;
        for (const auto* sites : {&attention.q, &attention.k, &attention.v})
            layer.producers.insert(layer.producers.end(), sites->begin(), sites->end());
        layers.push_back(std::move(layer));
    }
    return layers;
}

std::vector<UnitLayer> feedForwardUnits(const TransformerView& view) {
    std::vector<UnitLayer> layers;
    for (const FeedForward& ffn : view.feedForward) {
        UnitLayer layer;
        layer.name = ffn.down.empty() ? fmt::format("feed-forward {}", layers.size())
                                      : view.sites[ffn.down.front()].name;
        layer.refusal = neuronRefusal(ffn);
        if (layer.refusal.empty()) layer.leaf = ffn.widthLeaves.front();
        layer.producers = ffn.up;
        layer.consumers = ffn.down;
        layer.residualAdd = ffn.residualAdd;
        layers.push_back(std::move(layer));
    }
    return layers;
}

std::vector<UnitLayers> targetLayers(const TransformerView& view, const std::vector<UnitLayer>& layers,
                                     const std::vector<std::string>& targets,
                                     const std::vector<std::string>& ignore, pipeline::PassReport& report) {
    const std::vector<std::size_t> selected = analysis::SitePatterns(targets, ignore).select(view);
    const std::set<std::size_t> isTarget(selected.begin(), selected.end());
    std::vector<UnitLayers> groups;
    for (const UnitLayer& layer : layers) {
        if (std::none_of(layer.consumers.begin(), layer.consumers.end(),
                         [&](std::size_t site) { return isTarget.contains(site); }))
            continue;
        if (!layer.refusal.empty()) {
            report.skipped.push_back({layer.name, layer.refusal});
            continue;
        }
        const auto same = std::find_if(groups.begin(), groups.end(),
                                       [&](const UnitLayers& group) { return group.leaf == layer.leaf; });
        if (same == groups.end())
            groups.push_back({layer.leaf, {layer}});
        else
            same->layers.push_back(layer);
    }
    return groups;
}

namespace {

using Statistics = std::map<const ir::Value*, calibration::ChannelStatistics>;

/// Sums the scores of a group's sites, a shared weight once; stops at the first site that cannot be scored.
class GroupScore {
  public:
    GroupScore(const TransformerView& view, const UnitLayers& group)
        : view_(view),
          leaf_(group.leaf),
          scores_(static_cast<std::size_t>(view.axes->store->leafSize(group.leaf))) {}

    void addWeights(const std::vector<std::size_t>& sites) {
        for (const std::size_t index : sites) {
            const Site& site = view_.sites[index];
            if (accept(site) && weights_.insert(site.weight).second) add(squaredWeights(view_, site, leaf_));
        }
    }

    void addData(const std::vector<std::size_t>& sites, const Statistics& statistics,
                 const DataScore& byData) {
        for (const std::size_t index : sites) {
            const Site& site = view_.sites[index];
            if (!accept(site)) return;
            const auto found = statistics.find(site.input);
            if (found == statistics.end())
                refusal_ = "it did not run on the calibration data";
            else
                add(byData.score(view_, site, leaf_, found->second));
        }
    }

    const std::string& refusal() const { return refusal_; }
    std::vector<double> take() { return std::move(scores_); }

  private:
    bool accept(const Site& site) {
        if (refusal_.empty()) refusal_ = scoringRefusal(site);
        return refusal_.empty();
    }
    void add(const std::vector<double>& more) {
        for (std::size_t i = 0; i < scores_.size(); ++i) scores_[i] += more[i];
    }

    const TransformerView& view_;
    analysis::AtomId leaf_;
    std::vector<double> scores_;
    std::set<const ir::Value*> weights_;
    std::string refusal_;
};

}  // namespace

std::vector<UnitGroup> scoreUnits(const ir::Model& model, const TransformerView& view,
                                  std::vector<UnitLayers>& groups, const DataScore* byData,
                                  const data::Dataset* calibration, const calibration::Environment& environment,
                                  pipeline::PassReport& report) {
    Statistics statistics;
    if (byData != nullptr) {
        calibration::ValueSet inputs;
        for (const UnitLayers& group : groups)
            for (const UnitLayer& layer : group.layers)
                for (const std::size_t site : layer.consumers) inputs.insert(view.sites[site].input);
        statistics =
            calibration::collectChannelStatistics(model, *calibration, inputs, byData->moments, environment.progress,
                                                  environment.resources);
    }
    std::vector<UnitGroup> scored;
    std::erase_if(groups, [&](const UnitLayers& group) {
        GroupScore score(view, group);
        for (const UnitLayer& layer : group.layers) {
            if (byData != nullptr) {
                score.addData(layer.consumers, statistics, *byData);
            } else {
                score.addWeights(layer.producers);
                score.addWeights(layer.consumers);
            }
        }
        const std::string& name = group.layers.front().name;
        if (!score.refusal().empty()) {
            report.skipped.push_back({name, score.refusal()});
            return true;
        }
        scored.push_back({name, score.take()});
        return false;
    });
    return scored;
}

analysis::KeepMasks keepMasks(const std::vector<UnitLayers>& groups,
                              const std::vector<std::vector<bool>>& masks, const std::string& idleReason,
                              pipeline::PassReport& report) {
    analysis::KeepMasks keep;
    for (std::size_t i = 0; i < groups.size(); ++i) {
        if (std::find(masks[i].begin(), masks[i].end(), false) == masks[i].end())
            report.skipped.push_back({groups[i].layers.front().name, idleReason});
        else
            keep[groups[i].leaf] = masks[i];
    }
    return keep;
}

}  // namespace tcompress::passes
