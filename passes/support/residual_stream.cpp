#include "passes/support/residual_stream.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "lib/support/error.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

using analysis::Site;
using analysis::TransformerView;

ResidualStream residualStream(const TransformerView& view, const std::string& pass) {
    const analysis::AxisStore& store = *view.axes->store;
    ResidualStream residual;
    const auto isLeafOf = [&](const analysis::Axis& axis) {
        const auto leaves = store.leaves(axis);
        if (leaves.size() != 1)
            throw PassError(fmt::format("{}: the residual stream is split into several axes in this model; packed weights do that, "
                                        "so run this pass in front of quantization",
                                        pass));
        if (residual.leaf >= 0 && residual.leaf != leaves.front())
            throw PassError(fmt::format("{}: this model has several residual streams", pass));
        residual.leaf = leaves.front();
    };
    const auto writtenBy = [&](const auto& layer, const std::vector<std::size_t>& last) {
        // The sum tells more than the last matrix, which may be the first factor of two.
        if (const ir::Value* sum = layer.residualAdd == nullptr ? nullptr : layer.residualAdd->output(); sum != nullptr) {
            if (const auto* axes = view.axes->of(sum); axes != nullptr && !axes->empty()) isLeafOf(axes->back());
            return;
        }
        for (const std::size_t index : last) {
            const Site& site = view.sites[index];
            const auto* axes = view.axes->of(site.weight);
            if (axes != nullptr && site.outAxis < axes->size()) isLeafOf((*axes)[site.outAxis]);
        }
    };
    for (const auto& layer : view.attention) writtenBy(layer, layer.o);
    for (const auto& layer : view.feedForward) writtenBy(layer, layer.down);
    if (residual.leaf < 0)
        throw PassError(fmt::format("{}: no residual stream was recognised in this model; 'tcompress inspect' says why", pass));
    for (const Site& site : view.sites) {
        const auto* axes = view.axes->of(site.weight);
        if (isEmbedding(site) || axes == nullptr || site.inAxis >= axes->size()) continue;
        const auto leaves = store.leaves((*axes)[site.inAxis]);
        if (std::find(leaves.begin(), leaves.end(), residual.leaf) != leaves.end()) residual.readers.push_back(&site);
    }
    return residual;
}

namespace {

/// A float32 vector along the leaf that only this use reads.
bool isOwnVector(const analysis::ModelAxes& axes, const ir::Node& node, std::size_t slot, analysis::AtomId leaf) {
    const ir::Value* value = node.input(slot);
    if (value == nullptr || value->constant() == nullptr || value->dtype() != DType::float32 || value->uses().size() != 1)
        return false;
    const auto* own = axes.of(value);
    if (own == nullptr || value->constant()->size() != axes.store->leafSize(leaf)) return false;
    return !own->empty() && axes.store->leaves(own->back()) == std::vector<analysis::AtomId>{axes.store->representative(leaf)};
}

/// The slot of an element-wise node's constant vector.
std::optional<std::size_t> vectorSlot(const analysis::ModelAxes& axes, const ir::Node& node, analysis::AtomId leaf) {
    for (const std::size_t slot : {0U, 1U})
        if (isOwnVector(axes, node, slot, leaf) && node.input(1 - slot) != nullptr && node.input(1 - slot)->constant() == nullptr)
            return slot;
    return std::nullopt;
}

std::optional<AffineSite> fused(const analysis::ModelAxes& axes, ir::Node& node, analysis::AtomId leaf) {
    const bool skips = node.is("com.microsoft", "SkipLayerNormalization") || node.is("com.microsoft", "SkipSimplifiedLayerNormalization");
    const bool normal = node.is("LayerNormalization") || node.is("RMSNormalization") || node.is("SimplifiedLayerNormalization");
    if (!skips && !normal) return std::nullopt;
    AffineSite site{&node, skips ? 2U : 1U, nullptr, 0, node.output()};
    if (!isOwnVector(axes, node, site.gainSlot, leaf)) return std::nullopt;
    // The simplified forms have no bias of their own: what they add goes in front.
    const bool simplified = node.opType() != "LayerNormalization" && node.opType() != "SkipLayerNormalization";
    if (!simplified && node.input(site.gainSlot + 1) != nullptr) {
        // A bias that cannot be changed is one all the same: without it the site would be another norm.
        if (!isOwnVector(axes, node, site.gainSlot + 1, leaf)) return std::nullopt;
        site.biasNode = &node;
        site.biasSlot = site.gainSlot + 1;
    }
    return site;
}

std::optional<AffineSite> spelledOut(const analysis::ModelAxes& axes, ir::Node& node, analysis::AtomId leaf) {
    if (!node.is("Mul")) return std::nullopt;
    const auto slot = vectorSlot(axes, node, leaf);
    if (!slot) return std::nullopt;
    AffineSite site{&node, *slot, nullptr, 0, node.output()};
    if (site.output->uses().size() != 1 || site.output->uses()[0].kind != ir::UseKind::input) return site;
    ir::Node* const next = site.output->uses()[0].node;
    const auto biasSlot = next->is("Add") ? vectorSlot(axes, *next, leaf) : std::nullopt;
    if (!biasSlot) return site;
    site.biasNode = next;
    site.biasSlot = *biasSlot;
    site.output = next->output();
    return site;
}

}  // namespace

std::vector<AffineSite> affineSites(const ir::Model& model, const analysis::ModelAxes& axes, analysis::AtomId leaf) {
    std::vector<AffineSite> sites;
    for (const auto& node : model.graph().nodes()) {
        std::optional<AffineSite> site = fused(axes, *node, leaf);
        if (!site) site = spelledOut(axes, *node, leaf);
        if (site) sites.push_back(*site);
    }
    return sites;
}

}  // namespace tcompress::passes
