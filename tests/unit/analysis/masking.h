#pragma once
// Reference for shrink(): the original model with the weights that read removed positions set to zero.

#include "lib/analysis/transformer_view.h"
#include "lib/ir/edit.h"
#include "lib/support/random.h"

namespace tcompress::analysis {

/// Output projections and down projections of what carries a leaf of `keep`, their rows of removed positions
/// zeroed.
inline ir::Model maskedModel(const ir::Model& model, const TransformerView& view, const KeepMasks& keep) {
    ir::Model masked = model.clone();
    ir::Edit edit(masked, "mask");
    std::vector<std::size_t> readers;
    for (const AttentionLayer& layer : view.attention)
        readers.insert(readers.end(), layer.o.begin(), layer.o.end());
    for (const FeedForward& layer : view.feedForward)
        readers.insert(readers.end(), layer.down.begin(), layer.down.end());
    std::set<const ir::Value*> done;
    for (std::size_t index : readers) {
        const Site& site = view.sites[index];
        // Their outputs are the residual stream, which is never cut: every cut axis of the weight is read.
        const std::vector<Axis>& axes = view.axes->axes.at(site.weight);
        if (!done.insert(site.weight).second) continue;
        Tensor weight = *site.weight->constant();
        const Shape shape = weight.shape();
        bool touched = false;
        std::int64_t inner = 1;
        for (std::size_t k = shape.size(); k-- > 0; inner *= shape[k]) {
            if (!view.axes->store->touches(axes[k], keep)) continue;
            touched = true;
            const std::vector<bool> mask = view.axes->store->mask(axes[k], keep);
            auto data = weight.mutableData<float>();
            for (std::size_t i = 0; i < data.size(); ++i) {
                const std::int64_t position = static_cast<std::int64_t>(i) / inner % shape[k];
                if (!mask[static_cast<std::size_t>(position)]) data[i] = 0;
            }
        }
        if (!touched) continue;
        edit.setConstant(masked.graph().find(site.weight->name()), weight);
    }
    edit.commit();
    return masked;
}

/// A random half (at least one stays) of every head group and of every FFN width that may be cut.
inline KeepMasks randomHalf(const TransformerView& view, Random& random, bool heads, bool neurons) {
    KeepMasks keep;
    const auto choose = [&](AtomId leaf) {
        if (leaf < 0 || keep.count(leaf) != 0) return;
        const auto size = static_cast<std::size_t>(view.axes->store->leafSize(leaf));
        std::vector<bool> mask(size, true);
        std::size_t left = size;
        for (std::size_t i = 0; i < size && left > 1; ++i) {
            if (random.below(2) == 0) continue;
            mask[i] = false;
            --left;
        }
        keep[leaf] = mask;
    };
    for (const AttentionLayer& layer : view.attention) {
        if (heads && layer.refusals.empty())
            choose(layer.groupLeaf >= 0 ? layer.groupLeaf : layer.repeatLeaf);
    }
    for (const FeedForward& layer : view.feedForward) {
        if (neurons && layer.refusals.empty()) choose(layer.widthLeaves.front());
    }
    return keep;
}

}  // namespace tcompress::analysis
