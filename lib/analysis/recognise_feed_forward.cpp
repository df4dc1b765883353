// Feed-forward layers: a leaf that linear layers out of the residual stream produce and linear layers back
// into it contract, that nothing looks at as a whole, and with a residual addition behind it (without that, a
// classifier's hidden layer would look the same). Gated when the leaf occurs twice in what the up projections
// make.

#include <algorithm>
#include <map>

#include "lib/analysis/activation.h"
#include "lib/analysis/view_builder.h"

namespace tcompress::analysis {

void ViewBuilder::addFeedForward(const std::vector<std::size_t>& up, std::size_t down,
                                 const std::vector<AtomId>& leaves, int sharedBy) {
    const LinearContraction& downLinear = axes_->linears[down];
    std::vector<std::size_t> own;
    for (std::size_t linear : producingLinears(downLinear.input, {leaves.begin(), leaves.end()})) {
        if (std::find(up.begin(), up.end(), linear) != up.end()) own.push_back(linear);
    }
    if (own.empty()) return;
    const Residual residual =
        findResidual(axes_->linears[firstFactor(own.front())].input, axes_->linears[lastFactor(down)].output);
    if (residual.add == nullptr) return;

    FeedForward layer;
    layer.width = store_.size(downLinear.in);
    layer.widthLeaves = leaves;
    layer.sharedBy = sharedBy;
    layer.down = {siteOfLinear_[down]};
    std::ptrdiff_t occurrences = 0;
    std::vector<ir::Value*> outputs;
    for (std::size_t linear : own) {
        layer.up.push_back(siteOfLinear_[linear]);
        outputs.push_back(axes_->linears[linear].output);
        const std::vector<AtomId> made = store_.leaves(axes_->linears[linear].out);
        occurrences += std::count(made.begin(), made.end(), leaves.front());
    }
    layer.gated = occurrences > 1;
    const ActivationCut cut = recogniseActivation(model_, *axes_, outputs, downLinear.input);
    layer.activation = cut.kind;
    if (layer.gated && own.size() > 1 && cut.gate) {
        layer.gate = {layer.up[*cut.gate]};
    }
    layer.norm = residual.placement;
    layer.input = residual.input;
    layer.output = residual.output;
    layer.residualAdd = residual.add;
    std::set<std::string> reasons;
    for (AtomId leaf : leaves) {
        const std::set<std::string> refused = guard_.refusals(leaf);
        reasons.insert(refused.begin(), refused.end());
    }
    layer.refusals.assign(reasons.begin(), reasons.end());
    view_.feedForward.push_back(std::move(layer));
}

void ViewBuilder::findFeedForward() {
    LeafSet taken = residual_;
    for (const AttentionLayer& layer : view_.attention) {
        taken.insert(layer.headDimLeaves.begin(), layer.headDimLeaves.end());
        taken.insert(layer.valueDimLeaves.begin(), layer.valueDimLeaves.end());
        for (const std::size_t site : layer.o) {
            for (std::size_t i = 0; i < siteOfLinear_.size(); ++i) {
                if (siteOfLinear_[i] == site) taken.insert(linearIn_[i].begin(), linearIn_[i].end());
            }
        }
    }
    for (const AxisEvent& event : axes_->events) {
        if (event.kind == EventKind::dynamicQuantization || event.kind == EventKind::gather ||
            event.kind == EventKind::reduce)
            continue;
        const LeafSet seen = leavesOf(event.axis);
        taken.insert(seen.begin(), seen.end());
    }
    for (const ActivationMatmul& matmul : axes_->activationMatmuls) {
        const LeafSet contracted = leavesOf(matmul.contracted);
        taken.insert(contracted.begin(), contracted.end());
        for (const Axis& batch : matmul.batch) {
            const LeafSet own = leavesOf(batch);
            taken.insert(own.begin(), own.end());
        }
    }

    // Leaves between the same layers belong together: a width that was split into factors.
    using Layers = std::pair<std::vector<std::size_t>, std::vector<std::size_t>>;
    std::map<Layers, std::vector<AtomId>> groups;
    for (AtomId leaf : intersection(allIn_, allOut_)) {
        if (taken.count(leaf) != 0) continue;
        Layers layers;
        bool inStream = true;
        for (std::size_t i = 0; i < axes_->linears.size(); ++i) {
            if (linearOut_[i].count(leaf) != 0) {
                layers.first.push_back(i);
                const LeafSet& read = linearIn_[firstFactor(i)];
                inStream = inStream && !read.empty() && contains(residual_, read);
            }
            if (linearIn_[i].count(leaf) != 0) {
                layers.second.push_back(i);
                const LeafSet& made = linearOut_[lastFactor(i)];
                inStream = inStream && !made.empty() && contains(residual_, made);
            }
        }
        if (inStream) groups[layers].push_back(leaf);
    }
    for (const auto& [layers, leaves] : groups) {
        for (std::size_t down : layers.second)
            addFeedForward(layers.first, down, leaves, static_cast<int>(layers.second.size()));
    }
    std::stable_sort(view_.feedForward.begin(), view_.feedForward.end(),
                     [](const FeedForward& a, const FeedForward& b) {
                         return a.residualAdd->position() < b.residualAdd->position();
                     });
}

}  // namespace tcompress::analysis
