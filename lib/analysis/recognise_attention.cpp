// Attention: from each Softmax back to the product of queries and keys, forward to the product with the
// values. The axis contracted in the first is the head size; batch axes that linear layers produced are the
// heads. Key/value heads are those that the key operand carries by itself, not by an Expand.

#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "lib/analysis/axis_rules.h"
#include "lib/analysis/view_builder.h"

namespace tcompress::analysis {

namespace {

bool isTransparent(const ir::Node& node) {
    return isElementwise(node) || isLayout(node) || node.is("QuantizeLinear") ||
           node.is("DequantizeLinear") || node.is("DynamicQuantizeLinear");
}

}  // namespace

const ActivationMatmul* ViewBuilder::scoreMatmul(const ir::Node& softmax) const {
    std::deque<const ir::Value*> open{softmax.input(0)};
    ValueSet seen;
    while (!open.empty()) {
        const ir::Value* at = open.front();
        open.pop_front();
        if (at == nullptr || axes_->constant(at) || !seen.insert(at).second) continue;
        if (const auto found = matmulByOutput_.find(at); found != matmulByOutput_.end()) {
            const ActivationMatmul& matmul = axes_->activationMatmuls[found->second];
            if (intersects(leavesOf(matmul.contracted), allOut_) || matmul.contracted.empty()) return &matmul;
            continue;
        }
        if (at->producer() == nullptr || !isTransparent(*at->producer())) continue;
        for (const ir::Value* input : at->producer()->inputs()) open.push_back(input);
    }
    return nullptr;
}

const ActivationMatmul* ViewBuilder::contextMatmul(const ir::Node& softmax, ValueSet& path) const {
    std::deque<const ir::Value*> open{softmax.output()};
    while (!open.empty()) {
        const ir::Value* at = open.front();
        open.pop_front();
        if (at == nullptr || !path.insert(at).second) continue;
        for (const ir::Use& use : at->uses()) {
            if (use.node == nullptr) continue;
            const auto found = use.node->output() == nullptr ? matmulByOutput_.end()
                                                             : matmulByOutput_.find(use.node->output());
            if (found != matmulByOutput_.end()) return &axes_->activationMatmuls[found->second];
            if (!isTransparent(*use.node)) continue;
            for (const ir::Value* output : use.node->outputs()) open.push_back(output);
        }
    }
    return nullptr;
}

void ViewBuilder::setHeads(AttentionLayer& layer, const std::vector<AtomId>& heads,
                           const std::vector<AtomId>& kvHeads) {
    layer.heads = layer.kvHeads = 1;
    std::vector<AtomId> repeated;
    for (AtomId leaf : heads) {
        layer.heads *= store_.leafSize(leaf);
        if (std::find(kvHeads.begin(), kvHeads.end(), leaf) == kvHeads.end()) repeated.push_back(leaf);
    }
    for (AtomId leaf : kvHeads) layer.kvHeads *= store_.leafSize(leaf);
    if (kvHeads.size() == 1) layer.groupLeaf = kvHeads.front();
    if (repeated.size() == 1) layer.repeatLeaf = repeated.front();
    std::set<std::string> reasons;
    for (AtomId leaf : heads) {
        const std::set<std::string> own = guard_.refusals(leaf);
        reasons.insert(own.begin(), own.end());
    }
    if (heads.empty()) reasons.insert("it has one head");
    if (kvHeads.size() > 1 || repeated.size() > 1)
        reasons.insert("its head axis is a product of several parts");
    layer.refusals.assign(reasons.begin(), reasons.end());
}

bool ViewBuilder::isCross(const AttentionLayer& layer) const {
    if (layer.q.empty() || layer.k.empty()) return false;
    std::set<const ir::Value*> queries, keys;
    for (std::size_t i : layer.q) queries.insert(source(inputOf(i)));
    for (std::size_t i : layer.k) keys.insert(source(inputOf(i)));
    const auto shared = [&](const ir::Value* v) { return queries.count(v) != 0; };
    if (std::any_of(keys.begin(), keys.end(), shared)) return false;
    // Different normalizations of one stream still attend to themselves.
    const ValueSet behindQuery = streamBehind(*queries.begin());
    return behindQuery.count(*keys.begin()) == 0;
}

bool ViewBuilder::addAttention(const AxisEvent& softmax, std::string& reason) {
    const ActivationMatmul* score = scoreMatmul(*softmax.node);
    if (score == nullptr) {
        reason = "no product of two computed tensors before it";
        return false;
    }
    ValueSet path;
    const ActivationMatmul* context = contextMatmul(*softmax.node, path);
    if (context == nullptr) {
        reason = "no product of two computed tensors behind it";
        return false;
    }
    // The softmax runs over the keys: they are the operand whose free axis it is; with equal lengths it is
    // the second.
    const LeafSet over = leavesOf(softmax.axis);
    const bool keysFirst =
        intersects(over, leavesOf(score->freeA)) && !intersects(over, leavesOf(score->freeB));
    const ir::Value* query = keysFirst ? score->b : score->a;
    const ir::Value* key = keysFirst ? score->a : score->b;
    const bool weightsFirst = path.count(context->a) != 0;
    const ir::Value* value = weightsFirst ? context->b : context->a;
    const Axis valueAxis = weightsFirst ? context->freeB : context->freeA;

    AttentionLayer layer;
    layer.softmax = const_cast<ir::Node*>(softmax.node);
    layer.headDim = store_.size(score->contracted);
    layer.valueDim = store_.size(valueAxis);
    const LeafSet headDim = leavesOf(score->contracted);
    const LeafSet valueDim = intersection(leavesOf(valueAxis), allOut_);
    layer.headDimLeaves.assign(headDim.begin(), headDim.end());
    layer.valueDimLeaves.assign(valueDim.begin(), valueDim.end());

    const auto sites = [&](const std::vector<std::size_t>& linears) {
        std::vector<std::size_t> out;
        for (std::size_t linear : linears) out.push_back(siteOfLinear_[linear]);
        return out;
    };
    layer.q = sites(producingLinears(query, headDim));
    layer.k = sites(producingLinears(key, headDim));
    layer.v = sites(producingLinears(value, valueDim));
    layer.o = sites(consumingLinears(context->output, valueDim));
    if (layer.q.empty() || layer.o.empty()) {
        reason = layer.q.empty() ? "no linear layer makes its queries" : "no linear layer takes its context";
        return false;
    }

    std::vector<AtomId> heads, kvHeads;
    for (const Axis& batch : score->batch) {
        for (AtomId leaf : store_.leaves(batch)) {
            if (allOut_.count(leaf) != 0 && std::find(heads.begin(), heads.end(), leaf) == heads.end())
                heads.push_back(leaf);
        }
    }
    for (AtomId leaf : heads) {
        const bool cached = layer.k.empty() && graphInputLeaves_.count(leaf) != 0;
        if (cached || !producingLinears(key, {leaf}).empty()) kvHeads.push_back(leaf);
    }
    setHeads(layer, heads, kvHeads);
    if (kvHeads.empty() && !heads.empty() && layer.k.size() == 1 && layer.k != layer.q) {
        // Key/value heads that are looked up by index or shared by all queries: counted by what makes them.
        const std::int64_t width = view_.sites[layer.k.front()].outFeatures;
        layer.kvHeads = std::max<std::int64_t>(1, width / std::max<std::int64_t>(1, layer.headDim));
    }
    layer.cross = isCross(layer);
    const Residual residual = findResidual(inputOf(layer.q.front()), outputOf(layer.o.front()));
    layer.residualAdd = residual.add;
    layer.input = residual.input;
    layer.output = residual.output;
    layer.norm = residual.placement;
    view_.attention.push_back(std::move(layer));
    return true;
}

void ViewBuilder::addFusedAttention(const FusedAttention& fused) {
    AttentionLayer layer;
    layer.softmax = const_cast<ir::Node*>(fused.node);
    layer.headDim = store_.size(fused.headDim);
    layer.valueDim = store_.size(fused.valueDim);
    layer.headDimLeaves = store_.leaves(fused.headDim);
    layer.valueDimLeaves = store_.leaves(fused.valueDim);
    const LeafSet headDim = leavesOf(fused.headDim), valueDim = leavesOf(fused.valueDim);
    const ir::Value* branchInput = fused.query;
    for (std::size_t i = 0; i < axes_->linears.size(); ++i) {
        if (axes_->linears[i].node == fused.node) layer.q = layer.k = layer.v = {siteOfLinear_[i]};
    }
    if (layer.q.empty()) {
        for (std::size_t i : producingLinears(fused.query, headDim)) layer.q.push_back(siteOfLinear_[i]);
        for (std::size_t i : producingLinears(fused.key, headDim)) layer.k.push_back(siteOfLinear_[i]);
        for (std::size_t i : producingLinears(fused.value, valueDim)) layer.v.push_back(siteOfLinear_[i]);
        if (!layer.q.empty()) branchInput = inputOf(layer.q.front());
        layer.cross = isCross(layer);
    }
    for (std::size_t i : consumingLinears(fused.output, valueDim)) layer.o.push_back(siteOfLinear_[i]);
    std::vector<AtomId> heads = store_.leaves(fused.group);
    const std::vector<AtomId> kvHeads = heads;
    const std::vector<AtomId> repeat = store_.leaves(fused.repeat);
    heads.insert(heads.end(), repeat.begin(), repeat.end());
    setHeads(layer, heads, kvHeads);
    const Residual residual =
        layer.o.empty() ? Residual{} : findResidual(branchInput, outputOf(layer.o.front()));
    layer.residualAdd = residual.add;
    layer.input = residual.input;
    layer.output = residual.output;
    layer.norm = residual.placement;
    view_.attention.push_back(std::move(layer));
}

void ViewBuilder::findAttention() {
    const ir::Node* last = nullptr;
    for (const AxisEvent& event : axes_->events) {
        if (event.kind != EventKind::softmax || event.node == last) continue;
        last = event.node;
        std::string reason;
        if (!addAttention(event, reason))
            view_.notRecognised.push_back({event.node->label(), "softmax is no attention: " + reason});
    }
    for (const FusedAttention& fused : axes_->fusedAttentions) addFusedAttention(fused);
    std::stable_sort(view_.attention.begin(), view_.attention.end(),
                     [](const AttentionLayer& a, const AttentionLayer& b) {
                         return a.softmax->position() < b.softmax->position();
                     });
}

}  // namespace tcompress::analysis
