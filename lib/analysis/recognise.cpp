#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "lib/analysis/view_builder.h"
#include "lib/support/error.h"

namespace tcompress::analysis {

ViewBuilder::ViewBuilder(const ir::Model& model)
    : model_(model),
      axes_(std::make_shared<const ModelAxes>(analyseAxes(model))),
      store_(*axes_->store),
      guard_(model, *axes_) {
    view_.axes = axes_;
    for (std::size_t i = 0; i < axes_->linears.size(); ++i) {
        const LinearContraction& linear = axes_->linears[i];
        linearIn_.push_back(leavesOf(linear.in));
        linearOut_.push_back(leavesOf(linear.out));
        allIn_.insert(linearIn_.back().begin(), linearIn_.back().end());
        allOut_.insert(linearOut_.back().begin(), linearOut_.back().end());
        linearsByOutput_[linear.output].push_back(i);
        linearsByInput_[linear.input].push_back(i);
        productNodes_.insert(linear.node);
    }
    for (std::size_t i = 0; i < axes_->activationMatmuls.size(); ++i) {
        matmulByOutput_[axes_->activationMatmuls[i].output] = i;
        productNodes_.insert(axes_->activationMatmuls[i].node);
    }
    for (const FusedAttention& fused : axes_->fusedAttentions) {
        fusedNodes_.insert(fused.node);
        productNodes_.insert(fused.node);
        // The output of a packed attention node is its context, not the projection its weights make.
        linearsByOutput_.erase(fused.output);
    }
    for (const ir::Value* input : model.graph().inputs()) {
        const std::vector<Axis>* own = axes_->of(input);
        if (own == nullptr) continue;
        for (const Axis& axis : *own) {
            const LeafSet leaves = leavesOf(axis);
            graphInputLeaves_.insert(leaves.begin(), leaves.end());
        }
    }
}

TransformerView ViewBuilder::build() {
    findResidualLeaves();
    listSites();
    findFactors();
    findAttention();
    if (!view_.attention.empty()) {
        findFeedForward();
        groupBlocks();
    }
    assignRoles();
    countNorms();
    noteWhatIsMissing();
    return std::move(view_);
}

// The residual stream is what is normalized again and again, and goes into and comes out of linear layers. One norm is
// enough where a branch of linear layers leaves the stream and comes back: all that is left of a stream behind a linear map.
void ViewBuilder::findResidualLeaves() {
    std::map<AtomId, int> norms;
    LeafSet layerNorms;
    for (const AxisEvent& event : axes_->events) {
        if (event.kind != EventKind::norm && event.kind != EventKind::mean) continue;
        const bool isLayerNorm = event.kind == EventKind::norm && event.node->opType().find("LayerNormalization") != std::string::npos;
        for (AtomId leaf : leavesOf(event.axis)) {
            ++norms[leaf];
            if (isLayerNorm) layerNorms.insert(leaf);
        }
    }
    const auto comesBack = [&](AtomId leaf) {
        for (std::size_t out = 0; out < linearIn_.size(); ++out) {
            if (linearIn_[out].count(leaf) == 0 || linearOut_[out].count(leaf) != 0) continue;
            for (std::size_t back = 0; back < linearIn_.size(); ++back)
                if (linearOut_[back].count(leaf) != 0 && intersects(linearOut_[out], linearIn_[back])) return true;
        }
        return false;
    };
    for (const auto& [leaf, count] : norms) {
        if (allIn_.count(leaf) == 0 || allOut_.count(leaf) == 0) continue;
        if (count >= 2 || (layerNorms.count(leaf) != 0 && comesBack(leaf))) residual_.insert(leaf);
    }
}

void ViewBuilder::countNorms() {
    std::map<std::string, int> counts;
    const ir::Node* last = nullptr;
    for (const AxisEvent& event : axes_->events) {
        if (event.node == last) continue;
        last = event.node;
        if (event.kind == EventKind::norm) {
            ++counts[event.node->opType()];
        } else if (event.kind == EventKind::mean) {
            // A mean of squares: of x - mean(x) in LayerNorm, of x itself in RMSNorm.
            const ir::Node* square = event.node->input(0)->producer();
            if (square == nullptr || !(square->is("Pow") || square->is("Mul"))) continue;
            if (square->is("Mul") && square->input(0) != square->input(1)) continue;
            const ir::Node* base = source(square->input(0))->producer();
            const bool centred = base != nullptr && base->is("Sub");
            ++counts[centred ? "LayerNormalization (decomposed)" : "RMSNormalization (decomposed)"];
        }
    }
    for (const auto& [kind, count] : counts) view_.norms.push_back({kind, count});
}

void ViewBuilder::noteWhatIsMissing() {
    for (const AxisConflictNote& conflict : axes_->conflicts) {
        view_.notRecognised.push_back({conflict.node->label(), conflict.reason});
    }
    for (const auto& [name, count] : axes_->unknownOperators) {
        view_.notRecognised.push_back(
            {name, fmt::format("operator without an axis rule, {} node{}", count, count == 1 ? "" : "s")});
    }
    std::map<std::string, int> unshaped;
    for (const ir::Value* value : model_.graph().values()) {
        if (value->producer() != nullptr && axes_->of(value) == nullptr)
            ++unshaped[value->producer()->opType()];
    }
    for (const auto& [type, count] : unshaped) {
        if (type != "Constant")
            view_.notRecognised.push_back({type, fmt::format("{} outputs of unknown shape", count)});
    }
    if (view_.attention.empty()) {
        view_.notRecognised.push_back(
            {"model", "not a Transformer: no softmax between two products of computed tensors"});
    }
}

TransformerView recognise(const ir::Model& model) { return ViewBuilder(model).build(); }

}  // namespace tcompress::analysis
